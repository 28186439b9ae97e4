// Paints what course_lib/widgets/canvas.py describes: panels that follow three numbers, `value`, `layer` and `clip`.
// Python has done the mathematics and put it into tables. This file only looks numbers up, multiplies and adds.

const SVG = "http://www.w3.org/2000/svg";
const GROUND = 205; // the gray between pictures, as in course_lib.viz.grid

async function inflate(view) {
  const stream = new Blob([view]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** The widget's buffers as typed arrays and strings. */
async function unpack(model) {
  const spec = model.get("spec");
  const raw = await Promise.all(model.get("buffers").map(inflate));
  const words = (index) => new TextDecoder().decode(raw[index]);
  return {
    ...spec,
    table: new Float32Array(raw[spec.table]),
    width: new Float32Array(raw[spec.table]).length / spec.positions,
    stacks: spec.stacks.map((stack) => ({
      ...stack,
      data: stack.bits === 8 ? new Uint8Array(raw[stack.data]) : new Int16Array(raw[stack.data]),
    })),
    panels: spec.panels.map((row) =>
      row.map((panel) => ({
        ...panel,
        texts: panel.texts?.map((index) => words(index).split("\x1e")),
        svg: panel.svg === undefined ? undefined : words(panel.svg),
      }))
    ),
  };
}

function element(kind, className, text = "") {
  const made = document.createElement(kind);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Write gray levels into the pixels of a canvas; each level is base + Σ factor · stored number. */
function paint(pixels, where, size, channels, { list, base }) {
  const [first, second, ...more] = list;
  const level = (at) => {
    let sum = base;
    if (first) sum += first.factor * first.data[first.start + at];
    if (second) sum += second.factor * second.data[second.start + at];
    for (const term of more) sum += term.factor * term.data[term.start + at];
    return sum < 0 ? 0 : sum > 255 ? 255 : Math.round(sum);
  };
  for (let i = 0; i < where.length; i++) {
    if (channels === 1) {
      pixels[where[i]] = 0xff000000 | (level(i) * 0x010101);
    } else {
      const at = Math.floor(i / size) * 3 * size + (i % size);
      pixels[where[i]] = 0xff000000 | (level(at + 2 * size) << 16) | (level(at + size) << 8) | level(at);
    }
  }
}

/** For each pixel of each picture, its index in the grid of all pictures. */
function places([B, , H, W], columns, wide) {
  const where = new Int32Array(B * H * W);
  for (let b = 0, i = 0; b < B; b++)
    for (let y = 0; y < H; y++)
      for (let x = 0; x < W; x++, i++)
        where[i] = (1 + Math.floor(b / columns) * (H + 1) + y) * wide + 1 + (b % columns) * (W + 1) + x;
  return where;
}

/** What a picture panel adds up at a position, or null if Python has not sent its pictures yet. */
function termsOf(panel, data, liveNumber, { row, layer, clip, live: sent }) {
  const [B, C, H, W] = data.shape;
  const length = B * C * H * W;
  if (!panel.terms.length) {
    if (sent.byteLength < (liveNumber + 1) * length) return null;
    const bytes = new Uint8Array(sent.buffer, sent.byteOffset + liveNumber * length, length);
    return { list: [{ data: bytes, start: 0, factor: 1 }], base: 0 };
  }
  const gray = 127.5 / (clip ? 1 : data.span); // level = gray · value + 127.5
  const terms = { list: [], base: 127.5 };
  for (const [index, column] of panel.terms[layer]) {
    const stack = data.stacks[index];
    const weight = column < 0 ? 1 : data.table[row * data.width + column];
    const frame = Math.min(row, stack.frames - 1);
    if (weight === 0) continue;
    terms.base += gray * weight * stack.offset;
    terms.list.push({ data: stack.data, start: frame * length, factor: gray * weight * stack.scale });
  }
  return terms;
}

/** A panel with pictures. Every panel is {box, show}: its element, and show({row, layer, clip, live, liveTexts}). */
function picturePanel(panel, data, liveNumber) {
  const [B, C, H, W] = data.shape;
  const { columns, scale } = panel;
  const wide = columns * (W + 1) + 1;
  const high = Math.ceil(B / columns) * (H + 1) + 1;
  const box = element("div", panel.beside ? "panel beside" : "panel");
  const live = !panel.terms.length;
  if (panel.label) {
    const label = element("div", "title", panel.label);
    if (panel.beside) label.style.width = `${panel.beside}px`;
    if (live) label.append(element("span", "working", " working …"));
    box.append(label);
  }
  const canvas = element("canvas", "");
  canvas.width = wide;
  canvas.height = high;
  canvas.style.width = `${wide * scale}px`;
  canvas.style.aspectRatio = `${wide} / ${high}`;
  canvas.dataset.panel = panel.name;
  canvas.dataset.paints = 0;
  if (live) canvas.dataset.live = "";
  canvas.setAttribute("role", "img");
  box.append(canvas);

  const context = canvas.getContext("2d", { alpha: false });
  const image = context.createImageData(wide, high);
  const pixels = new Uint32Array(image.data.buffer);
  pixels.fill(0xff000000 | (GROUND << 16) | (GROUND << 8) | GROUND);
  const where = places(data.shape, columns, wide);

  function show(position) {
    const terms = termsOf(panel, data, liveNumber, position);
    if (!terms) return;
    paint(pixels, where, H * W, C, terms);
    context.putImageData(image, 0, 0);
    canvas.dataset.paints = Number(canvas.dataset.paints) + 1;
  }
  const describe = (words) => canvas.setAttribute("aria-label", `${panel.label || data.name}, ${words}`);
  return { box, show, live, describe };
}

function textPanel(panel, liveNumber) {
  const box = element("div", "panel text");
  if (panel.title) box.append(element("div", "title", panel.title));
  const words = element("div", "");
  words.dataset.panel = panel.name;
  words.style.minHeight = `${1.45 * panel.lines}em`;
  if (panel.width) box.style.width = `${panel.width}px`;
  box.append(words);
  const live = !panel.texts.length;
  function show({ row, layer, liveTexts }) {
    const text = live ? liveTexts[liveNumber] ?? "" : panel.texts[layer][row];
    if (words.textContent !== text) words.textContent = text;
  }
  return { box, show, live };
}

function drawingPanel(panel, data) {
  const box = element("div", "panel drawing");
  box.dataset.panel = panel.name;
  box.style.width = `${panel.width}px`;
  box.innerHTML = panel.svg;
  const svg = box.querySelector("svg");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", panel.alt);
  const above = document.createElementNS(SVG, "svg"); // its own layer: a marker moves without repainting the curves
  above.setAttribute("viewBox", svg.getAttribute("viewBox"));
  above.setAttribute("aria-hidden", "true");
  box.append(above);
  const moving = panel.markers.map((marker) => {
    const made = document.createElementNS(SVG, "path");
    made.setAttribute("fill", marker.shape === "line" ? "none" : marker.color);
    made.setAttribute("stroke", marker.shape === "line" ? marker.color : "currentColor");
    made.setAttribute("stroke-width", marker.shape === "line" ? 1.2 : 0.8);
    const [top, bottom] = Array.isArray(marker.y) ? marker.y : [marker.y, 0];
    made.setAttribute(
      "d",
      { line: `M0 ${top}V${bottom}`, dot: "M-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0", arrow: "M0 0l6-12h-12z" }[
        marker.shape
      ]
    );
    above.append(made);
    return made;
  });
  function show({ row, layer }) {
    const number = (column) => data.table[row * data.width + column];
    panel.markers.forEach((marker, i) => {
      const x = number(marker.x[layer]);
      const y = marker.shape === "dot" ? number(marker.y[layer]) : marker.shape === "arrow" ? marker.y : 0;
      const seen = Number.isFinite(x) && Number.isFinite(y);
      moving[i].setAttribute("visibility", seen ? "visible" : "hidden");
      if (seen) moving[i].setAttribute("transform", `translate(${x} ${y})`);
    });
  }
  return { box, show };
}

function stepPanel(model, data) {
  const box = element("div", "panel");
  for (const [text, name, by] of [
    ["‹", "one step back", -1],
    ["›", "one step on", 1],
  ]) {
    const button = element("button", "", text);
    button.type = "button";
    button.title = name;
    button.setAttribute("aria-label", name);
    button.addEventListener("click", () => {
      const last = data.low + data.step * (data.positions - 1);
      model.set("value", Math.min(last, Math.max(data.low, model.get("value") + by * data.step)));
      model.save_changes();
    });
    box.append(button);
  }
  return { box, show() {} };
}

/** Stop the canvas from sending its value to the kernel. The slider already sends every move, and a second message for
 *  each of them would slow a drag down. */
async function keepToTheBrowser(model) {
  const own = await model.widget_manager?.get_model?.(model.get("spec").id);
  if (own) own.save_changes = () => {};
}

/** All panels in their rows. Panels that Python fills are numbered in the order in which it sends their contents. */
function build(model, data) {
  const root = element("div", "course-canvas");
  const panels = [];
  let [pictures, texts] = [0, 0];
  const make = {
    pictures: (panel) => picturePanel(panel, data, panel.terms.length ? -1 : pictures++),
    text: (panel) => textPanel(panel, panel.texts.length ? -1 : texts++),
    drawing: (panel) => drawingPanel(panel, data),
    steps: () => stepPanel(model, data),
  };
  for (const row of data.panels) {
    const line = element("div", "row");
    for (const panel of row) {
      const made = make[panel.kind](panel);
      panels.push(made);
      line.append(made.box);
    }
    root.append(line);
  }
  return { root, panels };
}

/** Show the state of the model, now and whenever it changes. Returns a function that stops this. */
function follow(model, data, { root, panels }) {
  const state = () => {
    const row = Math.round((model.get("value") - data.low) / data.step);
    return {
      row: Math.min(data.positions - 1, Math.max(0, row)),
      layer: model.get("layer"),
      clip: model.get("clip"),
      live: model.get("live"),
      liveTexts: model.get("live_texts"),
    };
  };
  const waits = panels.some((panel) => panel.live);
  const mark = () => {
    root.dataset.busy = waits && Math.abs(model.get("shown") - model.get("value")) > data.step / 2;
  };
  const move = () => {
    const now = state();
    for (const panel of panels) if (!panel.live) panel.show(now);
    const words = `position ${Number((data.low + now.row * data.step).toPrecision(6))}`;
    for (const panel of panels) panel.describe?.(words);
    mark();
  };
  const receive = () => {
    const now = state();
    for (const panel of panels) if (panel.live) panel.show(now);
    mark();
  };
  move();
  receive();
  const joined = [
    ["change:value", move],
    ["change:layer", move],
    ["change:clip", move],
    ["change:shown", receive],
    ["change:live", receive],
  ];
  for (const [event, handler] of joined) model.on(event, handler);
  return () => {
    for (const [event, handler] of joined) model.off(event, handler);
  };
}

export default () => {
  let unpacked = null; // all views of a widget share what is unpacked
  return {
    async render({ model, el }) {
      await keepToTheBrowser(model);
      unpacked ??= unpack(model);
      const data = await unpacked;
      const built = build(model, data);
      const stop = follow(model, data, built);
      el.append(built.root);
      const forget = watchControls(el);
      return () => {
        stop();
        forget();
      };
    },
  };
};
