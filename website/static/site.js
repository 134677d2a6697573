// Three small things that the page cannot do without a script; everything else on the site works when it is off.

// A page read from a file may not fetch another one for the excerpts under search results.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

// Paper cannot unfold anything: open what is folded before printing, and close it again.
addEventListener("beforeprint", () => {
  document.querySelectorAll(".bd-article details:not([open])").forEach((element) => {
    element.open = true;
    element.dataset.printed = "";
  });
});
addEventListener("afterprint", () => {
  document.querySelectorAll("details[data-printed]").forEach((element) => {
    element.open = false;
    delete element.dataset.printed;
  });
});

// What scrolls sideways in its own box must be reachable by keyboard.
addEventListener("load", () => {
  const reach = () =>
    document.querySelectorAll(".katex-display, .output.text_html, .bd-article .docutils.literal-block-wrapper").forEach((box) => {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    });
  reach();
  addEventListener("resize", reach);
});
