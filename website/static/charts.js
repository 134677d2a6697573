// Draws each chart of the page over its still picture, and connects it to its controls.
(() => {
  "use strict";
  const NARROW = 520; // below this width of the chart its panels stand one above the other (also in charts.css)
  const PADDING = 8, SPACING = 18; // around the chart and between its panels (code/nonlinearity/interactive.py)

  function connect(chart) {
    const original = chart.querySelector("script[type='application/json']").textContent;
    const controls = [...chart.querySelectorAll(".chart-controls [name]")];
    const picture = chart.querySelector(".chart-picture");
    const live = chart.querySelector(".chart-live");
    const reading = chart.querySelector(".chart-reading");
    const valueOf = (control) => (control.type === "range" ? control.valueAsNumber : control.value);
    let result, drawnWidth, pending = 0, drawing = Promise.resolve();

    function fitted(width) {
      const spec = JSON.parse(original);
      delete spec.$schema;
      spec.config.background = "transparent";
      spec.config.font = getComputedStyle(chart).fontFamily;
      const columns = width < NARROW ? 1 : spec.concat.length;
      spec.columns = columns;
      const room = (width - PADDING - SPACING * (columns - 1)) / columns - spec.usermeta.margin;
      for (const panel of spec.concat) panel.width = Math.floor(room);
      for (const param of spec.params) {
        const control = controls.find((each) => each.name === param.name);
        if (control) param.value = valueOf(control);
        delete param.bind; // the page has controls of its own
      }
      return spec;
    }

    async function draw() {
      const width = picture.clientWidth;
      if (!width || width === drawnWidth) return;
      drawnWidth = width;
      const fresh = document.createElement("div");
      const options = { mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false, tooltip: false };
      const old = result;
      result = await vegaEmbed(fresh, fitted(width), options);
      const svg = fresh.querySelector("svg");
      for (const name of ["role", "aria-label", "aria-roledescription"]) svg.removeAttribute(name);
      svg.setAttribute("aria-hidden", "true"); // its container has the role and the name
      live.replaceChildren(fresh);
      live.hidden = false;
      chart.classList.add("drawn");
      if (old) old.finalize();
      read();
    }

    function read() {
      const lines = [...live.querySelectorAll("[class*='reading_'] text")].map((text) => text.textContent);
      reading.textContent = lines.join(". ");
      reading.setAttribute("role", "status"); // only now, so that a page does not begin by speaking
    }

    function label() {
      const chosen = controls.filter((control) => control.type !== "range").map((control) => control.value);
      const menus = chart.querySelectorAll(".chart-controls option").length > 0;
      for (const control of controls) {
        const output = control.nextElementSibling;
        if (output) output.value = control.value.replace("-", "−");
        const only = control.parentElement.dataset.only;
        if (only && menus) control.parentElement.hidden = !chosen.includes(only);
      }
    }

    chart.querySelector(".chart-controls").addEventListener("submit", (event) => event.preventDefault());
    chart.querySelector(".chart-controls").addEventListener("input", async (event) => {
      label();
      pending += 1;
      chart.setAttribute("aria-busy", "true"); // a screen reader waits for the new reading
      await drawing;
      if (result) { // else the first drawing is still to come, and asks the controls itself
        result.view.signal(event.target.name, valueOf(event.target));
        await result.view.runAsync();
        read();
      }
      if (--pending === 0) chart.removeAttribute("aria-busy");
    });
    label();
    new ResizeObserver(() => (drawing = drawing.then(draw))).observe(picture);
  }

  for (const chart of document.querySelectorAll(".chart")) connect(chart);
})();
