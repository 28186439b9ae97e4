// Before the manager of the widgets runs: where its parts lie, and what several widgets of the page have in common.
// (The manager looks for its fonts beside the module that it takes itself for, so both of its names get a place.)
window.require = {
  baseUrl: "assets",
  paths: { "@jupyter-widgets": "html-manager", "@jupyter-widgets/html-manager/dist": "html-manager" },
  waitSeconds: 0,
};

for (const state of document.querySelectorAll('script[type="application/vnd.jupyter.widget-state+json"]')) {
  let text = state.textContent;
  for (const shared of document.querySelectorAll("script[data-shared]")) {
    text = text.replaceAll(JSON.stringify(shared.dataset.shared), () => shared.textContent);
  }
  state.textContent = text;
}
