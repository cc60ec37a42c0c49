// Runs before the first paint, so that a page never flashes in the other scheme.
const savedTheme = (() => {
  try {
    return localStorage.getItem("localgen.theme");
  } catch {
    return null; // the browser keeps nothing for this page
  }
})();
if (savedTheme === "light" || savedTheme === "dark") {
  document.documentElement.dataset.theme = savedTheme;
}
