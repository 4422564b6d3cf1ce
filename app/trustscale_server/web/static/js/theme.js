// Runs before the first paint, so that a chosen theme does not flash.
(() => {
  // Whoever follows a link does not want the first screen first.
  const script = /** @type {HTMLScriptElement} */ (document.currentScript);
  const { pathname: first } = new URL("../../../", script.src);
  if (location.pathname !== first || location.search) document.documentElement.dataset.deep = "";
  try {
    const theme = localStorage.getItem("trustscale.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage is off: the system's theme.
  }
})();
