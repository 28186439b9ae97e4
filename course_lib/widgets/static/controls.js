// Gives ipywidgets' controls the names that a screen reader says. Both kinds of canvas use it.

/** Say which toggle button is pressed, which otherwise only its color shows, and name the group of buttons. */
function tellPressed(box) {
  for (const group of box.querySelectorAll(".widget-toggle-buttons:not([data-told])")) {
    group.dataset.told = "true";
    const tell = () => {
      const buttons = [...group.querySelectorAll("button")];
      const words = buttons.map((each) => each.textContent.trim()).join(" or ");
      const name = group.querySelector(".widget-label")?.textContent.trim() || words;
      for (const button of buttons) {
        button.setAttribute("aria-pressed", button.classList.contains("mod-active"));
        button.parentElement.setAttribute("role", "group");
        button.parentElement.setAttribute("aria-label", name);
      }
    };
    tell();
    new MutationObserver(tell).observe(group, { attributeFilter: ["class"], childList: true, subtree: true });
  }
}

function nameControls(box) {
  for (const widget of box.querySelectorAll(".widget-inline-hbox, .widget-slider")) {
    const name = widget.querySelector(".widget-label")?.textContent.trim();
    if (!name) continue;
    const readout = widget.querySelector(".widget-readout");
    for (const handle of widget.querySelectorAll(".noUi-handle")) {
      handle.setAttribute("aria-label", name);
      // Without this, a choice is read as its position.
      if (readout) handle.setAttribute("aria-valuetext", readout.textContent);
    }
    readout?.setAttribute("aria-label", `${name}, as a number`);
  }
  tellPressed(box);
  // Without this, JupyterLab takes the arrow keys.
  for (const select of box.querySelectorAll("select")) select.dataset.lmSuppressShortcuts = "true";
  for (const play of box.querySelectorAll(".widget-play")) {
    const names = ["play or pause", "stop and go back to the start", "repeat"];
    play.querySelectorAll("button").forEach((button, i) => {
      button.setAttribute("aria-label", names[i] ?? "play");
      button.title = names[i] ?? "play";
    });
  }
}

/** Name the controls around a canvas, now and whenever one is added. Returns a function that stops this. */
function watchControls(el) {
  let [observer, frame, tries] = [null, 0, 0];
  const begin = () => {
    const box = el.closest(".course-explorer");
    if (!box) {
      if (tries++ < 600) frame = requestAnimationFrame(begin); // not in the page yet
      return;
    }
    nameControls(box);
    const outside = (changes) => changes.some(({ target }) => !el.contains(target));
    observer = new MutationObserver((changes) => outside(changes) && nameControls(box));
    observer.observe(box, { childList: true, subtree: true });
  };
  begin();
  return () => {
    cancelAnimationFrame(frame);
    observer?.disconnect();
  };
}
