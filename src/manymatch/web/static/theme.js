// Before the first paint: the theme that was chosen here, where one was.
(() => {
  try {
    const chosen = localStorage.getItem("manymatch-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage may be forbidden; the system's theme holds.
  }
})();
