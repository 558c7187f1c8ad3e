// What the page can do with a script: hide policies, sort tables, choose a scale, read values. Everything it shows
// is in the page; it writes text only as text.
(() => {
  "use strict";
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const names = JSON.parse(document.getElementById("names").textContent);
  const hidden = new Set();

  // Policies: each entry of the legend becomes a button.
  const applyPolicies = () => {
    for (const element of all("[data-p]")) element.classList.toggle("off", hidden.has(Number(element.dataset.p)));
    toggles.forEach((button, policy) => button.setAttribute("aria-pressed", String(!hidden.has(policy))));
    showAll.disabled = hidden.size === 0;
  };
  const legend = document.getElementById("policies");
  const toggles = all("li", legend).map((item, policy) => {
    const button = make("button", { type: "button", "aria-pressed": "true", title: "Show or hide" }, ...item.childNodes);
    button.addEventListener("click", () => {
      if (!hidden.delete(policy)) hidden.add(policy);
      applyPolicies();
    });
    item.append(button);
    return button;
  });
  const showAll = make("button", { type: "button", class: "show-all" }, "Show all");
  showAll.addEventListener("click", () => { hidden.clear(); applyPolicies(); toggles[0]?.focus(); });
  legend.append(make("li", {}, showAll));
  applyPolicies();

  // SLO scales of the table of scores: the first one is shown.
  const scores = document.getElementById("all-scores");
  const rows = all("tr[data-scale]", scores);
  const scales = [...new Set(rows.map((row) => row.dataset.scale))];
  if (scales.length > 1) {
    const choices = make("div", { class: "choices", role: "group", "aria-label": "SLO scale of the table" }, "SLO scale:");
    const choose = (scale) => {
      for (const row of rows) row.classList.toggle("unscaled", scale !== "all" && row.dataset.scale !== scale);
      for (const button of all("button", choices)) button.setAttribute("aria-pressed", String(button.dataset.scale === scale));
    };
    for (const scale of [...scales, "all"]) {
      const button = make("button", { type: "button", "data-scale": scale }, scale === "all" ? "all" : `${scale}×`);
      button.addEventListener("click", () => choose(scale));
      choices.append(button);
    }
    scores.parentElement.before(choices);
    choose(rows.find((row) => "first" in row.dataset).dataset.scale);
  }

  // Tables: headings sort; cells without a number stay last.
  const key = (row, column) => {
    const cell = row.cells[column];
    return "v" in cell.dataset ? Number(cell.dataset.v) : cell.classList.contains("n") ? null : cell.textContent.trim();
  };
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      if (all("tbody .bar", table).some((bar) => bar.parentElement.cellIndex === column)) return;
      const [name, ...hint] = head.childNodes;
      const button = make("button", { type: "button" }, name, make("span", { class: "arrow", "aria-hidden": "true" }), ...hint);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const numeric = all("tbody tr", table).some((row) => typeof key(row, column) === "number");
        const before = head.getAttribute("aria-sort");
        // Numbers start with the largest, words with the first.
        const ascending = before === "none" ? !numeric : before === "descending";
        for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        const compare = (one, other) => {
          const [a, b] = [key(one, column), key(other, column)];
          if (a === null || b === null) return (a === null) - (b === null);
          const order = typeof a === "number" ? a - b : a.localeCompare(b);
          return ascending ? order : -order;
        };
        table.tBodies[0].append(...all("tbody tr", table).sort(compare));
      });
    });
  }

  // Values: under the pointer, or with the arrow keys once a drawing has the focus.
  for (const plot of all(".plot")) {
    const svg = plot.querySelector("svg");
    const stops = JSON.parse(plot.querySelector("script").textContent);
    const [left, top, right, bottom] = plot.dataset.frame.split(" ").map(Number);
    if (stops.at.length === 0) continue;
    const tip = make("div", { class: "tip", role: "status", hidden: "" });
    const cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
    cursor.setAttribute("class", "cursor");
    plot.append(tip);
    plot.tabIndex = 0;
    plot.setAttribute("role", "group");
    plot.setAttribute("aria-label", `${svg.getAttribute("aria-label")}. Arrow keys read the values, Escape ends.`);
    let current = -1;

    const line = (color, name, value) => make("div", {}, make("i", { style: `background:var(--${color})` }), make("span", {}, name), make("span", {}, value));
    const isShown = (stop) => stops.along !== "xy" || !hidden.has(stops.series[stop]);
    const hide = () => { tip.hidden = true; cursor.remove(); current = -1; };
    const show = (stop) => {
      current = stop;
      const at = stops.at[stop];
      let [x, y] = [(left + right) / 2, (top + bottom) / 2];
      tip.replaceChildren(make("b", {}, stops.heads[stop]));
      if (stops.along === "xy") {
        [x, y] = at;
        cursor.setAttribute("d", `M${x - 9} ${y}a9 9 0 1 0 18 0a9 9 0 1 0 -18 0`);
        tip.append(make("div", {}, stops.values[0][stop]));
      } else {
        if (stops.along === "x") x = at; else y = at;
        cursor.setAttribute("d", stops.along === "x" ? `M${x} ${top}V${bottom}` : `M${left} ${y}H${right}`);
        stops.series.forEach((series, index) => {
          const value = stops.values[index][stop];
          if (value === null || (typeof series === "number" && hidden.has(series))) return;
          tip.append(typeof series === "number" ? line(`p${series}`, names[series], value) : line(series[0], series[1], value));
        });
      }
      svg.append(cursor);
      tip.hidden = false;
      const box = svg.viewBox.baseVal;
      const share = x / box.width;
      tip.style.top = `${Math.min((y / box.height) * 100, 55)}%`;
      tip.style.left = share < 0.5 ? `calc(${share * 100}% + 12px)` : "auto";
      tip.style.right = share < 0.5 ? "auto" : `calc(${(1 - share) * 100}% + 12px)`;
    };
    const nearest = (event) => {
      const box = svg.getBoundingClientRect();
      const view = svg.viewBox.baseVal;
      const x = ((event.clientX - box.left) / box.width) * view.width;
      const y = ((event.clientY - box.top) / box.height) * view.height;
      let [best, distance] = [-1, Infinity];
      stops.at.forEach((at, stop) => {
        if (!isShown(stop)) return;
        const away = stops.along === "xy" ? Math.hypot(at[0] - x, at[1] - y) : Math.abs(at - (stops.along === "x" ? x : y));
        if (away < distance) [best, distance] = [stop, away];
      });
      return best;
    };
    const step = (by) => {
      let stop = current;
      do { stop += by; } while (stops.at[stop] !== undefined && !isShown(stop));
      if (stops.at[stop] !== undefined) show(stop);
    };
    const last = stops.at.length;
    const keys = {
      ArrowRight: () => step(1), ArrowUp: () => step(1), ArrowLeft: () => step(-1), ArrowDown: () => step(-1),
      Home: () => { current = -1; step(1); }, End: () => { current = last; step(-1); }, Escape: hide,
    };
    svg.addEventListener("pointermove", (event) => { const stop = nearest(event); if (stop >= 0) show(stop); else hide(); });
    svg.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    });
  }

  // Print shows what is folded, and every scale is as the screen has it.
  let folded = [];
  addEventListener("beforeprint", () => { folded = all("details:not([open])"); for (const details of folded) details.open = true; });
  addEventListener("afterprint", () => { for (const details of folded) details.open = false; });
})();
