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
      data: withPixels ? base64(pixels(canvas)) : "",
    }));
    const texts = {};
    for (const panel of explorer.querySelectorAll("[data-panel]"))
      if (!panel.matches("canvas, svg, :has(svg, canvas)")) texts[panel.dataset.panel] = panel.textContent;
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
    const parts = [...explorer.querySelectorAll(`${PICTURE}, [data-panel] svg, svg[data-panel], .course-diagram svg`)];
    const done = (part) => (part.matches("canvas") ? Number(part.dataset.paints) > 0 : part.childElementCount > 0);
    return parts.length > 0 && parts.every(done);
  }

  // --------------------------------------------------------------------------------------------- frame after frame

  /** Call look(done) in every frame, first among its callbacks and again when the frame is done, until it answers. */
  function everyFrame(look) {
    return new Promise((resolve) => {
      const after = new MessageChannel();
      function ask(done, goOn) {
        const found = look(done);
        if (found === undefined) return goOn();
        after.port1.close();
        resolve(found);
      }
      const frame = () => ask(false, () => after.port2.postMessage(null));
      after.port1.onmessage = () => ask(true, () => requestAnimationFrame(frame));
      requestAnimationFrame(frame);
    });
  }

  /** A canvas that a reader sees empty: a transparent pixel, or fewer than three colours. */
  function blank(canvas) {
    const seen = new Set();
    for (const word of new Uint32Array(pixels(canvas).buffer)) {
      if (word >>> 24 !== 255) return true;
      if (seen.size < 3) seen.add(word);
    }
    return seen.size < 3;
  }

  let notes = null;

  /** Note, from now to unwatch(), in every frame: empty canvases, sizes, and when a network was said to work. */
  function watch(explorer) {
    const look = () => [...explorer.querySelectorAll(PICTURE)];
    const size = (element) => {
      const { width, height } = element.getBoundingClientRect();
      return `${element.dataset?.panel ?? "explorer"} ${width.toFixed(1)} x ${height.toFixed(1)}`;
    };
    const paints = () => look().reduce((sum, canvas) => sum + Number(canvas.dataset.paints), 0);
    const [count, first] = [look().length, paints()];
    const mine = { frames: 0, blank: 0, sizes: [], busy: [], paints: 0, stop: false };
    notes = mine;
    everyFrame((done) => {
      if (mine.stop) return true;
      if (!done) return undefined;
      const canvases = look();
      mine.frames++;
      mine.paints = paints() - first;
      if (canvases.length < count || canvases.some(blank)) mine.blank++;
      mine.sizes = [...new Set([...mine.sizes, ...[explorer, ...canvases].map(size)])];
      if (mine.busy.at(-1) !== busy(explorer)) mine.busy.push(busy(explorer));
    });
  }

  const unwatch = () => Object.assign(notes, { stop: true });

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
      Object.assign(scratch.canvas, { width: 64, height: 64 });
      scratch.drawImage(element, 0, 0, 64, 64);
      const words = new Uint32Array(scratch.getImageData(0, 0, 64, 64).data.buffer);
      if (words.every((word) => word === words[0])) return "";
      for (const word of words) hash = Math.imul(hash ^ word, 0x01000193) >>> 0;
    }
    return String(hash);
  }

  /** What arm() or count() will find. */
  let promised = null;

  /** From the next key press on, wait for the first frame in which the picture is another one; its milliseconds. */
  function arm(selector, limit = 10000) {
    const before = signature(selector);
    promised = new Promise((resolve) => {
      function onKey() {
        const start = performance.now();
        const answer = everyFrame(() => {
          const now = signature(selector);
          const gone = performance.now() - start;
          if (now && now !== before) return gone;
          return gone > limit ? null : undefined;
        });
        resolve(answer);
      }
      window.addEventListener("keydown", onKey, { capture: true, once: true });
    });
  }

  /** Wait until the picture has stayed the same for some milliseconds; whether it ever does. */
  function rest(selector, quiet = 250, limit = 30000) {
    const start = performance.now();
    let [last, since] = [signature(selector), start];
    return everyFrame((done) => {
      if (!done) return undefined;
      const [now, here] = [signature(selector), performance.now()];
      if (now !== last || !now) [last, since] = [now, here];
      if (here - since > quiet) return true;
      return here - start > limit ? false : undefined;
    });
  }

  /** Count, from now on and for some milliseconds, the pictures that follow one another, and the empty frames. */
  function count(selector, milliseconds) {
    const [start, found] = [performance.now(), { painted: 0, blank: 0, frames: 0 }];
    let last = signature(selector);
    promised = everyFrame((done) => {
      if (!done) return undefined;
      const now = signature(selector);
      found.frames++;
      if (!now) found.blank++;
      else if (now !== last) found.painted++;
      last = now || last;
      return performance.now() - start >= milliseconds ? found : undefined;
    });
  }

  const answer = () => promised;

  /** Move a slider one step on and one back, again and again, sixteen moves a frame. */
  function shake(handle, times) {
    let done = 0;
    return everyFrame((over) => {
      for (let i = 0; over && i < 16; i++, done++)
        handle.dispatchEvent(new KeyboardEvent("keydown", { key: done % 2 ? "ArrowLeft" : "ArrowRight", bubbles: true }));
      return done >= times ? done : undefined;
    });
  }

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

    /** Open a notebook, where it is not open yet, and wait for its kernel; the kernel's id. */
    async open(path) {
      await window.jupyterapp.restored;
      await window.jupyterapp.commands.execute("docmanager:open", { path, factory: "Notebook" });
      while (!(lab.panel?.context?.path === path && lab.panel.content?.widgets))
        await new Promise((resolve) => setTimeout(resolve, 50));
      await lab.panel.context.ready;
      await lab.panel.sessionContext.ready;
      await lab.kernel.info;
      window.jupyterapp.shell.collapseLeft();
      return lab.kernel.id;
    },

    /** Close the notebook in front and end its kernel. */
    async close() {
      const { id } = lab.panel.sessionContext.session;
      lab.panel.dispose();
      await window.jupyterapp.serviceManager.sessions.shutdown(id);
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
      const texts = (selector) => [...document.querySelectorAll(selector)].map((element) => element.textContent.trim());
      const says = (selector, words) => texts(selector).filter((text) => words.test(text));
      return [
        ...texts('[data-mime-type="application/vnd.jupyter.error"], .jupyter-widgets-error-widget'),
        ...says('[data-mime-type="application/vnd.jupyter.stderr"]', /Traceback \(most recent call last\)/),
        ...says(".jp-OutputArea-output", /^(Error displaying widget|Loading widget)/),
      ];
    },

    /** From top to bottom, also those in cells that are out of sight and out of the page. */
    explorers: () => lab.panel.content.widgets.flatMap((cell) => [...cell.node.querySelectorAll(".course-explorer")]),

    /** Where the notebook's selection is: number of the active cell, and command or edit mode. */
    selection: () => `cell ${lab.panel.content.activeCellIndex}, ${lab.panel.content.mode} mode`,

    async theme(name) {
      await window.jupyterapp.commands.execute("apputils:change-theme", { theme: name });
      await everyFrame(() => (document.body.dataset.jpThemeName === name ? true : undefined));
    },

    /** Run code in a new last cell, which then goes; milliseconds from its end to the first full picture. */
    async firstPicture(code, limit = 60000) {
      const { commands } = window.jupyterapp;
      lab.panel.content.activeCellIndex = lab.panel.content.widgets.length - 1;
      await commands.execute("notebook:insert-cell-below");
      const cell = lab.panel.content.activeCell;
      cell.model.sharedModel.setSource(code);
      cell.node.scrollIntoView({ block: "start" });
      await commands.execute("notebook:run-cell");
      const ended = performance.now();
      const took = await everyFrame(() => {
        const explorer = cell.node.querySelector(".course-explorer");
        const gone = performance.now() - ended;
        if (explorer && painted(explorer)) return gone;
        return gone > limit ? null : undefined;
      });
      await commands.execute("notebook:delete-cell");
      return took;
    },
  };

  return {
    CONTROLS, state, painted, watch, unwatch, arm, answer, rest, count, counted: answer, shake, contrasts, lab,
    get selection() {
      return window.jupyterapp ? lab.selection() : "no notebook";
    },
  };
})();
