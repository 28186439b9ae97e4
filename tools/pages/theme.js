// Light or dark: what the system asks for, until the reader presses the button; the choice is kept where a browser allows it.
(() => {
  const sheet = document.getElementById("dark");
  const wish = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try {
    chosen = localStorage.getItem("course-theme");
  } catch {
    // a browser that keeps nothing for files
  }
  const isDark = () => (chosen ? chosen === "dark" : wish.matches);

  function apply() {
    if (chosen) sheet.media = isDark() ? "all" : "not all";
    if (!document.body) return;
    document.body.dataset.jpThemeLight = String(!isDark());
    document.body.dataset.jpThemeName = isDark() ? "JupyterLab Dark" : "JupyterLab Light";
    for (const button of document.querySelectorAll("button.theme")) {
      button.textContent = isDark() ? "Light" : "Dark";
      button.setAttribute("aria-label", `${button.textContent} colors`);
      button.hidden = false;
    }
  }

  apply();
  wish.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    for (const button of document.querySelectorAll("button.theme")) {
      button.addEventListener("click", () => {
        chosen = isDark() ? "light" : "dark";
        try {
          localStorage.setItem("course-theme", chosen);
        } catch {
          // then it holds for this page
        }
        apply();
      });
    }
  });
})();
