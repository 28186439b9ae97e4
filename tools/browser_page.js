// What tools/browser.py runs inside a page: it reads pixels, values and sizes, and watches them frame by frame.
window.probe ??= (() => {
  const CONTROLS = ".widget-slider, .widget-toggle-buttons, .widget-checkbox, .widget-dropdown, .widget-play";
  const PICTURE = "canvas[data-panel]";

  // ------------------------------------------------------------------------------------------- what an explorer shows

  function base64(bytes) {
    let text = "";
    for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
    return btoa(text);
  }

  const pixels = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;

  /** A slider's number or position, the number of the pressed button, a tick, or whether something plays. */
  function value(control) {
    if (control.matches(".widget-slider")) return Number(control.querySelector(".noUi-target").noUiSlider.get());
    if (control.matches(".widget-toggle-buttons"))
      return [...control.querySelectorAll("button")].findIndex((button) => button.classList.contains("mod-active"));
    if (control.matches(".widget-checkbox")) return control.querySelector("input").checked;
    if (control.matches(".widget-dropdown")) return control.querySelector("select").selectedIndex;
    return control.querySelector(".fa-pause") !== null;
  }

  const busy = (explorer) => explorer.querySelector('[data-busy="true"]') !== null;

  /** Values of all controls, pixels of all canvases, words of all text panels, markup of all drawings. */
  function state(explorer, withPixels = true) {
    const pictures = [...explorer.querySelectorAll(PICTURE)].map((canvas) => ({
      name: canvas.dataset.panel,
      width: canvas.width,
      height: canvas.height,
      paints: Number(canvas.dataset.paints),
      data: withPixels ? base64(pixels(canvas)) : "",
    }));
    const texts = {};
    for (const panel of explorer.querySelectorAll("[data-panel]"))
      if (!panel.matches("canvas, svg") && !panel.querySelector("svg, canvas")) texts[panel.dataset.panel] = panel.textContent;
    return {
      values: [...explorer.querySelectorAll(CONTROLS)].map(value),
      visible: [...explorer.querySelectorAll(CONTROLS)].map((control) => control.getClientRects().length > 0),
      busy: busy(explorer),
      pictures,
      texts,
      drawings: [...explorer.querySelectorAll("svg")].map((drawing) => drawing.outerHTML),
    };
  }

  /** Whether all that an explorer holds has been painted once. */
  function painted(explorer) {
    const canvases = [...explorer.querySelectorAll(PICTURE)];
    const drawings = [...explorer.querySelectorAll("[data-panel] svg, svg[data-panel], .course-diagram svg")];
    const done = canvases.every((canvas) => Number(canvas.dataset.paints) > 0) && drawings.every((one) => one.childElementCount);
    return done && canvases.length + drawings.length > 0;
  }

  // --------------------------------------------------------------------------------------------- frame after frame

  /** Call look() in every frame, first among its callbacks and again when the frame is done, until it says stop. */
  function everyFrame(look) {
    const after = new MessageChannel();
    after.port1.onmessage = () => {
      if (!look(true)) requestAnimationFrame(frame);
      else after.port1.close();
    };
    function frame() {
      if (!look(false)) after.port2.postMessage(null);
      else after.port1.close();
    }
    requestAnimationFrame(frame);
  }

  /** A canvas that a reader sees empty: a transparent pixel, or fewer than three colours. */
  function blank(canvas) {
    const seen = new Set();
    const words = new Uint32Array(pixels(canvas).buffer);
    for (const word of words) {
      if (word >>> 24 !== 255) return true;
      if (seen.size < 3) seen.add(word);
    }
    return seen.size < 3;
  }

  let watching = null;

  /** Note, from now to unwatch(), in every frame: empty canvases, sizes, and when a network was said to work. */
  function watch(explorer) {
    const count = explorer.querySelectorAll(PICTURE).length;
    const notes = { frames: 0, blank: 0, sizes: [], busy: [], paints: 0, stop: false };
    const size = (element) => {
      const { width, height } = element.getBoundingClientRect();
      return `${element.dataset?.panel ?? "explorer"} ${width.toFixed(1)} x ${height.toFixed(1)}`;
    };
    const paints = () => [...explorer.querySelectorAll(PICTURE)].reduce((sum, canvas) => sum + Number(canvas.dataset.paints), 0);
    const first = paints();
    everyFrame((done) => {
      if (!done) return notes.stop;
      const canvases = [...explorer.querySelectorAll(PICTURE)];
      notes.frames++;
      notes.paints = paints() - first;
      if (canvases.length < count || canvases.some(blank)) notes.blank++;
      for (const element of [explorer, ...canvases]) if (!notes.sizes.includes(size(element))) notes.sizes.push(size(element));
      if (notes.busy.at(-1) !== busy(explorer)) notes.busy.push(busy(explorer));
      return notes.stop;
    });
    watching = notes;
  }

  function unwatch() {
    watching.stop = true;
    return watching;
  }

  // ------------------------------------------------------------------------------------------------ time to pixels

  const scratch = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

  /** A number that changes with the picture; "" where there is none, or an empty one. */
  function signature(selector) {
    const found = [...document.querySelectorAll(selector)].filter((element) => element.getClientRects().length);
    if (!found.length) return "";
    let hash = 0x811c9dc5;
    for (const element of found) {
      const [wide, high] = [element.naturalWidth ?? element.width, element.naturalHeight ?? element.height];
      if (!wide || !high || element.complete === false) return "";
      scratch.canvas.width = 64;
      scratch.canvas.height = 64;
      scratch.drawImage(element, 0, 0, 64, 64);
      const words = new Uint32Array(scratch.getImageData(0, 0, 64, 64).data.buffer);
      let same = true;
      for (const word of words) {
        same &&= word === words[0];
        hash = Math.imul(hash ^ word, 0x01000193) >>> 0;
      }
      if (same) return "";
    }
    return String(hash);
  }

  let pressed = null;

  /** From the next key press on, wait for the first frame in which the picture is another one. */
  function arm(selector, limit = 10000) {
    const before = signature(selector);
    pressed = new Promise((resolve) => {
      const onKey = () => {
        const start = performance.now();
        everyFrame(() => {
          const now = signature(selector);
          const gone = performance.now() - start;
          if (now && now !== before) resolve(gone);
          else if (gone > limit) resolve(null);
          return (now && now !== before) || gone > limit;
        });
      };
      window.addEventListener("keydown", onKey, { capture: true, once: true });
    });
    return before !== "";
  }

  const answer = () => pressed;

  /** Wait until the picture has stayed the same for some milliseconds. */
  function rest(selector, quiet = 250, limit = 30000) {
    return new Promise((resolve) => {
      const start = performance.now();
      let last = signature(selector);
      let since = start;
      everyFrame((done) => {
        if (!done) return false;
        const here = performance.now();
        const now = signature(selector);
        if (now !== last || !now) [last, since] = [now, here];
        const over = here - since > quiet || here - start > limit;
        if (over) resolve(here - since > quiet);
        return over;
      });
    });
  }

  let counting = null;

  /** Count, from now on and for some milliseconds, the pictures that follow one another, and the empty frames. */
  function count(selector, milliseconds) {
    counting = new Promise((resolve) => {
      const start = performance.now();
      const notes = { painted: 0, blank: 0, frames: 0 };
      let last = signature(selector);
      everyFrame((done) => {
        if (!done) return false;
        const now = signature(selector);
        notes.frames++;
        if (!now) notes.blank++;
        else if (now !== last) {
          notes.painted++;
          last = now;
        }
        const over = performance.now() - start >= milliseconds;
        if (over) resolve(notes);
        return over;
      });
    });
  }

  const counted = () => counting;

  /** Move a slider one step on and one back, again and again, four moves a frame. */
  const shake = (handle, times) =>
    new Promise((resolve) => {
      let done = 0;
      everyFrame((over) => {
        for (let i = 0; over && i < 4; i++, done++)
          handle.dispatchEvent(new KeyboardEvent("keydown", { key: done % 2 ? "ArrowLeft" : "ArrowRight", bubbles: true }));
        if (done >= times) resolve();
        return done >= times;
      });
    });

  // ----------------------------------------------------------------------------------------------------- what is read

  function rgb(css) {
    const numbers = (css.match(/[\d.]+/g) ?? []).map(Number);
    const [r, g, b, alpha = 1] = css.startsWith("color(srgb") ? numbers.map((n, i) => (i < 3 ? n * 255 : n)) : numbers;
    return { r, g, b, alpha };
  }

  function luminance({ r, g, b }) {
    const linear = [r, g, b].map((level) => (level / 255 <= 0.03928 ? level / 3294.6 : ((level / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  }

  function ground(element) {
    for (let at = element; at; at = at.parentElement) {
      const color = rgb(getComputedStyle(at).backgroundColor);
      if (color.alpha > 0.5) return color;
    }
    return { r: 255, g: 255, b: 255 };
  }

  /** Contrast of every text of an explorer with what it stands on, as [ratio, text]; drawings are left out. */
  function contrasts(explorer) {
    const found = [];
    const walker = document.createTreeWalker(explorer, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode.textContent.trim();
      const parent = walker.currentNode.parentElement;
      const style = getComputedStyle(parent);
      const hidden = !parent.getClientRects().length || style.visibility === "hidden";
      if (!/[\p{L}\p{N}]/u.test(text) || parent.closest("svg, style, script") || hidden) continue;
      const [a, b] = [luminance(rgb(style.color)), luminance(ground(parent))];
      found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text.slice(0, 60)]);
    }
    return found;
  }

  // ------------------------------------------------------------------------------------------------------- JupyterLab

  const lab = {
    get panel() {
      return window.jupyterapp.shell.currentWidget;
    },
    get kernel() {
      return lab.panel.sessionContext.session.kernel;
    },

    /** Wait for the notebook in front and its kernel; the kernel's id. */
    async ready(path) {
      while (!(window.jupyterapp?.shell?.currentWidget?.context?.path === path && lab.panel.content?.widgets))
        await new Promise((resolve) => setTimeout(resolve, 50));
      await window.jupyterapp.restored;
      await lab.panel.context.ready;
      await lab.panel.sessionContext.ready;
      await lab.kernel.info;
      window.jupyterapp.shell.collapseLeft();
      return lab.kernel.id;
    },

    /** Close the notebook in front and open another. */
    async change(path) {
      lab.panel?.dispose();
      await window.jupyterapp.commands.execute("docmanager:open", { path, factory: "Notebook" });
      return lab.ready(path);
    },

    finished: false,
    run() {
      lab.finished = false;
      const end = () => (lab.finished = true);
      window.jupyterapp.commands.execute("notebook:run-all-cells").then(end, (error) => {
        console.error(`running all cells: ${error}`);
        end();
      });
    },

    idle: () => lab.finished && lab.kernel.status === "idle",

    /** Of every cell: kind, number, what may hold an error, and the widgets that it shows. */
    cells: () =>
      lab.panel.content.widgets.map((cell) => {
        const outputs = cell.model.outputs?.toJSON() ?? [];
        return {
          kind: cell.model.type,
          empty: !cell.model.sharedModel.getSource().trim(),
          count: cell.model.executionCount ?? null,
          outputs: outputs.filter((output) => ["error", "stream"].includes(output.output_type)),
          views: outputs.map((output) => output.data?.["application/vnd.jupyter.widget-view+json"]?.model_id).filter(Boolean),
        };
      }),

    /** Errors that stand in the page and in no cell's output: inside widgets, and in place of them. */
    written() {
      const found = [];
      for (const element of document.querySelectorAll('[data-mime-type="application/vnd.jupyter.error"], .jupyter-widgets-error-widget'))
        found.push(element.textContent.trim());
      for (const element of document.querySelectorAll('[data-mime-type="application/vnd.jupyter.stderr"]'))
        if (element.textContent.includes("Traceback (most recent call last)")) found.push(element.textContent.trim());
      for (const element of document.querySelectorAll(".jp-OutputArea-output.jupyter-widgets, .jp-OutputArea-output"))
        if (/^(Error displaying widget|Loading widget)/.test(element.textContent.trim())) found.push(element.textContent.trim());
      return found;
    },

    explorers: (index) => [...lab.panel.content.widgets[index].node.querySelectorAll(".course-explorer")],

    /** Where the notebook's selection is: number of the active cell, and command or edit mode. */
    selection: () => `cell ${lab.panel.content.activeCellIndex}, ${lab.panel.content.mode} mode`,

    theme: (name) => window.jupyterapp.commands.execute("apputils:change-theme", { theme: name }),

    /** Run code in a new last cell, which then goes: milliseconds from its end to the first full picture that it shows. */
    async firstPicture(code, limit = 60000) {
      const { commands } = window.jupyterapp;
      const { kernel, panel } = lab;
      panel.content.activeCellIndex = panel.content.widgets.length - 1;
      await commands.execute("notebook:insert-cell-below");
      const cell = panel.content.activeCell;
      cell.model.sharedModel.setSource(code);
      cell.node.scrollIntoView({ block: "start" });
      let ended = 0;
      const note = (_, message) => {
        const isEnd = message.header.msg_type === "status" && message.content.execution_state === "idle";
        if (isEnd && message.parent_header.msg_type === "execute_request") ended = performance.now();
      };
      kernel.iopubMessage.connect(note);
      const first = new Promise((resolve) => {
        const start = performance.now();
        everyFrame(() => {
          const explorer = cell.node.querySelector(".course-explorer");
          const now = performance.now();
          const over = explorer !== null && painted(explorer);
          if (over) resolve(now);
          else if (now - start > limit) resolve(null);
          return over || now - start > limit;
        });
      });
      const run = commands.execute("notebook:run-cell");
      const seen = await first;
      await run;
      while (!ended && performance.now() - seen < limit) await new Promise((resolve) => setTimeout(resolve, 5));
      kernel.iopubMessage.disconnect(note);
      await commands.execute("notebook:delete-cell");
      return seen === null || !ended ? null : Math.max(0, seen - ended);
    },
  };

  return {
    CONTROLS, state, painted, busy, watch, unwatch, arm, answer, rest, count, counted, shake, contrasts, everyFrame, lab,
    get selection() {
      return window.jupyterapp ? lab.selection() : "no notebook";
    },
  };
})();
