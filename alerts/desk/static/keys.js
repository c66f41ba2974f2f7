"use strict";
// Keys: the dialog in base.html lists them. Who dictates turns single ones off.
(() => {
  const help = document.getElementById("keys"), button = document.getElementById("keys-button");
  const show = () => { if (!help.open) help.showModal(); };
  button.hidden = false;
  button.addEventListener("click", show);
  help.addEventListener("click", (event) => { if (event.target === help) help.close(); }); // beside what it holds

  let go = false;
  document.addEventListener("keydown", (event) => {
    if (help.open) return;
    const open = event.key === "Escape" && (event.target.closest("details[open]")
      || document.querySelector("details:is(.menu, .pop)[open]"));
    if (open) {
      open.open = false;
      open.querySelector("summary").focus();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=checkbox]), select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (document.body.dataset.keys === "off") return;
    const pages = { n: "/", a: "/alerts", s: "/stream", h: "/health" };
    if (go && pages[event.key]) { location.href = pages[event.key]; return; }
    go = event.key === "g";
    if (event.key === "?") show();
    if (event.key === "/") { event.preventDefault(); document.querySelector("[data-search]")?.focus(); }
    if (event.key === "j" || event.key === "k") {
      const rows = [...document.querySelectorAll("[data-row]")];
      const at = rows.findIndex((row) => row.closest("tr, li").contains(document.activeElement));
      rows[Math.min(rows.length - 1, Math.max(0, at + (event.key === "j" ? 1 : -1)))]?.focus();
    }
    if (event.key === "x") document.activeElement.closest("li")?.querySelector("[data-pick]")?.click();
  });
})();
