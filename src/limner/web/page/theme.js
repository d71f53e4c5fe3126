// Light colours, dark colours, or those of the system. A classic script in the head, so that it runs before the first paint.
(() => {
  const KEY = "limner-theme";
  const WORDS = { system: "as the system", light: "light", dark: "dark" };
  const SIGNS = { system: "◐", light: "☀", dark: "☾" };
  const root = document.documentElement;

  const stored = () => {
    try { return localStorage.getItem(KEY) ?? "system"; } catch { return "system"; }
  };
  let theme = stored() in WORDS ? stored() : "system";

  const apply = () => {
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (!button) return;
    button.setAttribute("aria-label", `Colours: ${WORDS[theme]}`);
    button.title = `Colours: ${WORDS[theme]}`;
    button.firstElementChild.textContent = SIGNS[theme];
  };

  apply();
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", () => {
      const names = Object.keys(WORDS);
      theme = names[(names.indexOf(theme) + 1) % names.length];
      try { localStorage.setItem(KEY, theme); } catch { /* private mode: it is kept until the page is closed */ }
      apply();
    });
  });
})();
