// Two drawings that follow sliders: where the kernel of a layer lands, and a size on its way through a U-Net.
// They need no Python while they run, so the arithmetic of course_lib.shapes and course_lib.viz.diagrams stands here once
// more; tests/test_diagram_widget.py holds every value and every sentence of it against theirs. All but the last part
// of this file is pure: numbers in, words or the inside of an SVG out.

export const KINDS = ["conv", "pool", "transposed conv"];

// ------------------------------------------------------------------------------------------------ arithmetic

/** What comes out of a layer: {out, formula} or {refusal}, and how its kernel moves.
 *  `reach`: cells that a kernel spans; `full`: rows of the larger grid, padding included; `places`: positions of the
 *  kernel along one axis. */
export function layer({ kind, size, kernel, stride, padding, output_padding, dilation }) {
  const reach = dilation * (kernel - 1) + 1;
  const wide = size + 2 * padding;
  if (kind === "transposed conv") {
    const most = Math.max(stride, dilation) - 1;
    if (output_padding > most) return { refusal: `output_padding must lie in [0, ${most}], got ${output_padding}` };
    const out = (size - 1) * stride - 2 * padding + reach + output_padding;
    if (out < 1) {
      return { refusal: `nothing is left: the output would have size ${out}; use less padding or a larger input` };
    }
    const formula =
      `(${size} − 1)·${stride} − 2·${padding} + ${dilation}·(${kernel} − 1) + ${output_padding} + 1 = ${out}`;
    return { out, formula, reach, full: out + 2 * padding, places: size };
  }
  if (output_padding) {
    return {
      refusal: `output_padding is for transposed convolutions; with a ${kind} it must be 0, got ${output_padding}`,
    };
  }
  const half = Math.floor(kernel / 2);
  if (kind === "pool" && padding > half) return { refusal: `padding must lie in [0, ${half}], got ${padding}` };
  if (wide < reach) {
    return {
      refusal:
        `the kernel reaches over ${reach} pixels but the padded input has ${wide}; ` +
        "use a smaller kernel or dilation, or more padding",
    };
  }
  const out = Math.floor((wide - reach) / stride) + 1;
  const formula = `⌊(${size} + 2·${padding} − ${dilation}·(${kernel} − 1) − 1) / ${stride}⌋ + 1 = ${out}`;
  return { out, formula, reach, full: wide, places: out };
}

/** Rows of the larger grid, padding included, that the kernel touches in one of its places along an axis. */
export function taps({ kernel, stride, dilation }, place) {
  return Array.from({ length: kernel }, (_, i) => place * stride + i * dilation);
}

/** How often each row of the larger grid is touched, without the padding. */
export function touched(values) {
  const { full, places } = layer(values);
  const counts = new Array(full).fill(0);
  for (let place = 0; place < places; place++) for (const row of taps(values, place)) counts[row] += 1;
  return counts.slice(values.padding, full - values.padding);
}

/** A size halved and doubled: {down, up, problem}, as course_lib.viz.diagrams.halve. */
export function ladder(size, halvings) {
  const down = [size];
  while (down.length <= halvings && down.at(-1) >= 2) down.push(Math.floor(down.at(-1) / 2));
  const multiple = 2 ** halvings;
  const below = size - (size % multiple);
  const good = below === size ? [size] : below ? [below, below + multiple] : [multiple];
  const near = `The nearest good size${good.length > 1 ? "s are" : " is"} ${good.join(" and ")}.`;
  if (down.length <= halvings) {
    const poolings = down.length === 2 ? "pooling" : "poolings";
    return { down, up: [], problem: `Nothing is left to halve after ${down.length - 1} ${poolings}. ${near}` };
  }
  const up = down.slice(0, -1).map((skip, i) => [2 * down[i + 1], skip]).reverse();
  const bad = up.filter(([doubled, skip]) => doubled !== skip).reverse();
  const chains = bad.map(([doubled, skip]) => `${skip} → ${Math.floor(skip / 2)} → ${doubled} ≠ ${skip}`);
  return { down, up, problem: bad.length ? `${chains.join(",  ")}. ${near}` : "" };
}

// ----------------------------------------------------------------------------------------------------- words

/** The text panels of the first drawing, and the drawing in words. */
export function layerWords(values) {
  const { kind, size, kernel, stride, padding, output_padding, dilation } = values;
  const { refusal, out, formula } = layer(values);
  if (refusal) return { refused: true, result: refusal, note: "", label: `There is no such layer: ${refusal}.` };
  const counts = touched(values);
  const missed = counts.filter((count) => !count).length;
  const of = `${missed} of ${counts.length} rows and columns`;
  const notes = [];
  if (kind === "transposed conv") {
    if (padding) notes.push("Hatched: cut off by the padding.");
    if (output_padding) notes.push(`The output padding adds ${output_padding} at the right and at the bottom.`);
    if (counts.some((count) => count > 1)) notes.push("Where squares overlap, they add up.");
    if (missed === counts.length) notes.push("Red: no pixel of the output receives anything but the bias.");
    else if (missed) notes.push(`Red: ${of} of the output receive${missed === 1 ? "s" : ""} nothing but the bias.`);
  } else {
    if (padding) notes.push("Hatched: padding.");
    const last = counts.indexOf(0) === counts.length - missed;
    if (missed === counts.length) notes.push("Red: no pixel of the input is ever looked at.");
    else if (missed && last) {
      const which = missed === 1 ? "row and column are" : `${missed} rows and columns are`;
      notes.push(`Red: the last ${which} never looked at.`);
    } else if (missed) notes.push(`Red: ${of} of the input ${missed === 1 ? "is" : "are"} never looked at.`);
  }
  const note = notes.join(" ");
  const numbers = `kernel ${kernel}, stride ${stride}, padding ${padding}, dilation ${dilation}`;
  const label = `${kind}, ${numbers}: ${size} by ${size} becomes ${out} by ${out}. ${note}`.trim();
  return { refused: false, result: `${formula}\n${size} × ${size} → ${out} × ${out}`, note, label };
}

/** The text panel of the second drawing, and the drawing in words. */
export function ladderWords(size, halvings) {
  const { down, up, problem } = ladder(size, halvings);
  const multiple = 2 ** halvings;
  const times = halvings === 1 ? "once" : `${halvings} times`;
  const odd = up.filter(([doubled, skip]) => doubled !== skip).map(([, skip]) => skip).reverse();
  let result = `${size} can be halved ${times}: every skip fits.\n`;
  if (!problem) result += `${size} is a multiple of ${multiple}, so no pool meets an odd size.`;
  else {
    const lost = "a row and a column, which doubling does not bring back.";
    let why = "A map of one pixel cannot be halved.";
    if (odd.length === 1) why = `${odd[0]} is odd: its pool drops ${lost}`;
    if (odd.length > 1) why = `${odd.slice(0, -1).join(", ")} and ${odd.at(-1)} are odd: their pools drop ${lost}`;
    result = `${problem}\n${why} Only multiples of ${multiple} can be halved ${times}.`;
  }
  const back = up.map(([doubled, skip]) => (doubled === skip ? doubled : `${doubled}, which does not fit ${skip}`));
  const label =
    `U-Net. Down: ${down.join(", ")}. ` + (up.length ? `Up: ${back.join(", ")}. ` : "") + result.replace("\n", " ");
  return { refused: Boolean(problem), result, label };
}

// ---------------------------------------------------------------------------------------------------- pictures

// As in course_lib.viz.style; each stands out from a white and from a dark ground.
const BLUE = "#0072B2";
const ORANGE = "#D55E00";
const GREEN = "#009E73";
const PURPLE = "#AA4A85";
const RED = "#C81E1E";
// The first, the second and the last place of a kernel differ in dashes too.
const MARKS = [
  { color: ORANGE, dash: "" },
  { color: BLUE, dash: "6 3" },
  { color: PURPLE, dash: "1.5 2.5" },
];
export const WIDTH = 640;
export const HEIGHTS = { layer: 344, unet: 372 };
const [SIDE, TOP, LEFT, RIGHT] = [270, 34, 8, 362];

const short = (number) => Number(number.toFixed(2));
const square = (x, y, w, h) => `M${short(x)} ${short(y)}h${short(w)}v${short(h)}h${short(-w)}z`;
const words = (x, y, text, look = "") => `<text x="${short(x)}" y="${short(y)}" class="${look}">${text}</text>`;
const path = (d, look) => `<path d="${d}" ${look}/>`;

function arrow(x0, y0, x1, y1, color, dash = "") {
  const length = Math.hypot(x1 - x0, y1 - y0);
  const [ux, uy] = [(x1 - x0) / length, (y1 - y0) / length];
  const [bx, by] = [x1 - 10 * ux, y1 - 10 * uy];
  const line = `M${short(x0)} ${short(y0)}L${short(bx)} ${short(by)}`;
  const wings = [4.2, -4.2].map((wing) => `L${short(bx - wing * uy)} ${short(by + wing * ux)}`).join("");
  return (
    path(line, `stroke="${color}" stroke-width="1.6" fill="none" stroke-dasharray="${dash}"`) +
    path(`M${short(x1)} ${short(y1)}${wings}z`, `fill="${color}"`)
  );
}

/** Slanted lines over a rectangle; those of neighbors meet. */
function hatch(x, y, w, h, falling) {
  let d = "";
  const step = 7;
  if (falling) {
    for (let c = Math.ceil((y - x - w) / step) * step; c < y + h - x; c += step) {
      const [from, to] = [Math.max(x, y - c), Math.min(x + w, y + h - c)];
      d += `M${short(from)} ${short(from + c)}L${short(to)} ${short(to + c)}`;
    }
  } else {
    for (let c = Math.ceil((x + y) / step) * step; c < x + w + y + h; c += step) {
      const [from, to] = [Math.max(x, c - y - h), Math.min(x + w, c - y)];
      d += `M${short(from)} ${short(c - from)}L${short(to)} ${short(c - to)}`;
    }
  }
  return d;
}

/** A square of count × count cells with a frame around those from first to last; what lies outside is hatched. */
function grid(x, count, first, last, title) {
  const cell = SIDE / count;
  const [from, inner] = [first * cell, (last - first) * cell];
  let d = "";
  for (let i = 0; i <= count; i++) d += `M${short(x + i * cell)} ${TOP}v${SIDE}M${x} ${short(TOP + i * cell)}h${SIDE}`;
  let out = words(x + SIDE / 2, 16, title, "bold big");
  if (inner < SIDE) {
    const after = from + inner;
    const around = [
      [x, TOP, SIDE, from],
      [x, TOP + after, SIDE, SIDE - after],
      [x, TOP + from, from, inner],
      [x + after, TOP + from, SIDE - after, inner],
    ].filter(([, , w, h]) => w > 0.01 && h > 0.01);
    out += path(around.map((box) => square(...box)).join(""), 'fill="currentColor" fill-opacity="0.07"');
    const lines = around.map((box) => hatch(...box, false)).join("");
    out += path(lines, 'stroke="currentColor" stroke-opacity="0.38" stroke-width="0.8" fill="none"');
  }
  const faint = cell < 4 ? 0.1 : 0.27;
  out += path(d, `stroke="currentColor" stroke-opacity="${faint}" fill="none" shape-rendering="crispEdges"`);
  return out + path(square(x + from, TOP + from, inner, inner), 'stroke="currentColor" stroke-width="2" fill="none"');
}

/** Red over the rows and columns of a grid that no place of the kernel touches. */
function missed(x, cell, first, counts) {
  const size = counts.length * cell;
  const [left, top] = [x + first * cell, TOP + first * cell];
  const strips = [];
  for (let i = 0, from = 0; i <= counts.length; i++) {
    if (i < counts.length && !counts[i]) continue;
    if (i > from) strips.push([from * cell, (i - from) * cell]);
    from = i + 1;
  }
  const boxes = strips.flatMap(([at, long]) => [
    [left, top + at, size, long],
    [left + at, top, long, size],
  ]);
  const area = boxes.map((box) => square(...box)).join("");
  const lines = cell < 4 ? "" : boxes.map((box) => hatch(...box, true)).join("");
  return (
    path(area, `fill="${RED}" fill-opacity="${lines ? 0.16 : 0.4}"`) +
    path(lines, `stroke="${RED}" stroke-opacity="0.75" stroke-width="1" fill="none"`)
  );
}

/** One place of a kernel: the cells that it touches, and the square that it spans. */
function landing(x, cell, rows, columns, { color, dash }) {
  const cells = rows.flatMap((row) => columns.map((column) => [x + column * cell, TOP + row * cell]));
  const [wide, high] = [columns, rows].map((taken) => (taken.at(-1) - taken[0] + 1) * cell);
  const around = square(x + columns[0] * cell, TOP + rows[0] * cell, wide, high);
  return (
    path(cells.map(([left, top]) => square(left, top, cell, cell)).join(""), `fill="${color}" fill-opacity="0.36"`) +
    path(around, `stroke="${color}" stroke-width="2.6" stroke-dasharray="${dash}" fill="none"`)
  );
}

function number(x, cell, row, column, text) {
  const size = Math.min(15, 0.62 * cell, (1.4 * cell) / String(text).length);
  const [at, down] = [x + (column + 0.5) * cell, TOP + (row + 0.5) * cell];
  const place = `x="${short(at)}" y="${short(down)}"`;
  return size < 7 ? "" : `<text ${place} class="bold" style="font-size:${short(size)}px">${text}</text>`;
}

/** Where the two grids stand: the one whose cells are single, and the one over which a kernel lands. */
function frame(values) {
  const { kind, size, padding } = values;
  const { out, full, places } = layer(values);
  const transposed = kind === "transposed conv";
  const [single, big] = transposed ? [LEFT, RIGHT] : [RIGHT, LEFT];
  const inner = transposed ? out : size;
  return {
    transposed,
    out,
    places,
    single: { x: single, count: places, cell: SIDE / places, name: transposed ? "input" : "output", size: places },
    large: { x: big, count: full, cell: SIDE / full, first: padding, last: padding + inner },
  };
}

/** Row and column of the kernel's place under a point of the picture, or null. */
export function pointed(values, x, y) {
  if (layer(values).refusal) return null;
  const { single, places } = frame(values);
  const at = [y - TOP, x - single.x].map((from) => Math.floor(from / single.cell));
  return at.every((i) => i >= 0 && i < places) ? at : null;
}

/** The inside of the first SVG. `place`: [row, column] of the only place to show; else the first two and the last. */
export function layerPicture(values, place = null) {
  if (layer(values).refusal) {
    const box = square(LEFT, TOP, RIGHT + SIDE - LEFT, SIDE);
    const dashes = 'stroke="currentColor" stroke-opacity="0.4" stroke-dasharray="6 5" fill="none"';
    return path(box, dashes) + words(WIDTH / 2, TOP + SIDE / 2, "there is no such layer", "big");
  }
  const { kernel, size } = values;
  const { transposed, out, places, single, large } = frame(values);
  const titles = [`input ${size} × ${size}`, `output ${out} × ${out}`];
  let picture = grid(single.x, single.count, 0, single.count, titles[transposed ? 0 : 1]);
  picture += grid(large.x, large.count, large.first, large.last, titles[transposed ? 1 : 0]);
  picture += missed(large.x, large.cell, large.first, touched(values));
  picture += arrow(290, TOP + SIDE / 2, 350, TOP + SIDE / 2, "currentColor");

  const end = places - 1;
  const corners = places > 1 ? [[0, 0], [0, 1], [end, end]] : [[0, 0]];
  const shown = place ? [place] : corners;
  let [areas, numbers, legend, x] = ["", "", "", LEFT];
  shown.forEach(([row, column], i) => {
    const count = row * places + column + 1;
    const [rows, columns] = [taps(values, row), taps(values, column)];
    areas += landing(single.x, single.cell, [row], [column], MARKS[i]);
    areas += landing(large.x, large.cell, rows, columns, MARKS[i]);
    if (!place) {
      const corner = i === 2 ? -1 : 0;
      numbers += number(single.x, single.cell, row, column, count);
      numbers += number(large.x, large.cell, rows.at(corner), columns.at(corner), count);
    }
    let text = i ? `pixel ${count}` : `${single.name} pixel ${count}`;
    if (i === 2) text += ", the last";
    if (place) text = placeWords(values, place);
    const look = `fill="${MARKS[i].color}" fill-opacity="0.36" stroke="${MARKS[i].color}" stroke-width="2"`;
    legend += path(square(x + 1, TOP + SIDE + 16, 14, 14), `${look} stroke-dasharray="${MARKS[i].dash}"`);
    legend += words(x + 22, TOP + SIDE + 23.5, text, "left");
    x += 42 + 6.8 * text.length;
  });
  if (!place) {
    legend += words(RIGHT + SIDE, TOP + SIDE + 23.5, "point at others, or use arrow keys", "right faint");
  }
  return picture + areas + numbers + legend;
}

/** One place of the kernel in words. */
export function placeWords({ kind, kernel, padding }, [row, column]) {
  const transposed = kind === "transposed conv";
  const [name, does] = transposed ? ["input", "spreads over"] : ["output", "looks at"];
  const other = transposed ? "output" : padding ? "padded input" : "input";
  const cells = kernel === 1 ? "1 cell" : `${kernel} × ${kernel} cells`;
  return `${name} pixel in row ${row + 1}, column ${column + 1} ${does} ${cells} of the ${other}`;
}

/** The inside of the second SVG. */
export function ladderPicture(size, halvings) {
  const { down, up } = ladder(size, halvings);
  const [half, tall, step] = [52, 18, Math.min(96, 310 / halvings)];
  const left = (level) => (level < halvings ? 60 + (170 * level) / halvings : WIDTH / 2);
  const y = (level) => 30 + step * level;
  const enter = (level, side) => {
    const x = side > 0 ? left(level) : WIDTH - left(level);
    return level === halvings ? [x - side * half, y(level)] : [x - 20 * side, y(level) - tall];
  };
  const box = (x, level, text, color, opacity, look = "") =>
    path(
      square(x - half, y(level) - tall, 2 * half, 2 * tall),
      `fill="${color}" fill-opacity="${opacity}" stroke="${color}" stroke-width="2" ${look}`
    ) + words(x, y(level), text, "bold big");

  let picture = "";
  down.forEach((side, level) => {
    picture += box(left(level), level, `${side} × ${side}`, BLUE, 0.13);
    if (level < halvings) picture += arrow(left(level) + 15, y(level) + tall, ...enter(level + 1, 1), BLUE);
  });
  if (!up.length) picture += box(left(down.length), down.length, "nothing", RED, 0.16, 'stroke-dasharray="5 4"');
  up.forEach(([doubled, skip], i) => {
    const level = halvings - 1 - i;
    const [x, bad] = [WIDTH - left(level), doubled !== skip];
    picture += arrow(...enter(level + 1, -1), x - 15, y(level) + tall, GREEN);
    const skips = arrow(left(level) + half, y(level), x - half, y(level), bad ? RED : "currentColor", "5 4");
    picture += bad ? skips : `<g opacity="0.6">${skips}</g>`;
    picture += box(x, level, `${doubled} × ${doubled}`, bad ? RED : GREEN, bad ? 0.2 : 0.13);
    if (bad) {
      const wide = 34 + 8 * (String(doubled).length + String(skip).length);
      const pill = `x="${(WIDTH - wide) / 2}" y="${y(level) - 12}" width="${wide}" height="24" rx="12"`;
      picture += `<rect ${pill} fill="${RED}"/>` + words(WIDTH / 2, y(level), `${doubled} ≠ ${skip}`, "bold light");
    } else picture += words(WIDTH / 2, y(level) - 10, "skip fits", "faint");
  });
  return picture;
}

// ---------------------------------------------------------------------------------------------------- the page

const NUMBERS = ["size", "kernel", "stride", "padding", "output_padding", "dilation"];
const SCENES = {
  layer: {
    traits: ["kind_index", ...NUMBERS],
    read: (model) => ({
      kind: KINDS[model.get("kind_index")],
      ...Object.fromEntries(NUMBERS.map((name) => [name, model.get(name)])),
    }),
    words: layerWords,
    picture: layerPicture,
  },
  unet: {
    traits: ["size", "halvings"],
    read: (model) => [model.get("size"), model.get("halvings")],
    words: (values) => ladderWords(...values),
    picture: (values) => ladderPicture(...values),
  },
};
const KEYS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

/** Of ipywidgets' toggle buttons only the color says which is pressed: say it to a screen reader, and whose they are. */
function tellPressed(box) {
  for (const group of box.querySelectorAll(".widget-toggle-buttons:not([data-told])")) {
    group.dataset.told = "true";
    const tell = () => {
      for (const button of group.querySelectorAll("button")) {
        button.setAttribute("aria-pressed", button.classList.contains("mod-active"));
        button.parentElement.setAttribute("role", "group");
        button.parentElement.setAttribute("aria-label", group.querySelector(".widget-label")?.textContent.trim() ?? "");
      }
    };
    tell();
    new MutationObserver(tell).observe(group, { attributeFilter: ["class"], childList: true, subtree: true });
  }
}

/** Give ipywidgets' sliders around an element the name that a screen reader says: they have none of their own. */
function nameControls(el) {
  let [observer, waiting, tries] = [null, 0, 0];
  const begin = () => {
    const around = el.closest(".course-explorer");
    if (!around) {
      if (tries++ < 600) waiting = requestAnimationFrame(begin); // not in the page yet
      return;
    }
    const name = () => {
      tellPressed(around);
      for (const control of around.querySelectorAll(".widget-inline-hbox")) {
        const text = control.querySelector(".widget-label")?.textContent.trim();
        if (!text) continue;
        for (const handle of control.querySelectorAll(".noUi-handle")) handle.setAttribute("aria-label", text);
        control.querySelector(".widget-readout")?.setAttribute("aria-label", `${text}, as a number`);
      }
    };
    name();
    observer = new MutationObserver((changes) => changes.some(({ target }) => !el.contains(target)) && name());
    observer.observe(around, { childList: true, subtree: true });
  };
  begin();
  return () => {
    cancelAnimationFrame(waiting);
    observer?.disconnect();
  };
}

export default {
  render({ model, el }) {
    const name = model.get("scene");
    const scene = SCENES[name];
    const isLayer = name === "layer";
    const root = document.createElement("div");
    root.className = "course-diagram";
    root.dataset.scene = name;
    const height = HEIGHTS[name];
    root.innerHTML = `<svg viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img"></svg>`;
    const svg = root.firstElementChild;
    const panel = (key) => {
      const made = document.createElement("div");
      made.dataset.panel = key;
      return made;
    };
    const [result, note] = [panel("result"), isLayer ? panel("note") : null];
    result.setAttribute("role", "status"); // a screen reader says what a slider has changed
    if (isLayer) {
      svg.before(result);
      svg.after(note);
    } else svg.after(result);

    let place = null;
    const draw = () => {
      const values = scene.read(model);
      const { refused, result: text, note: more, label } = scene.words(values);
      if (place) {
        const { places } = layer(values);
        place = places ? place.map((at) => Math.min(at, places - 1)) : null;
      }
      if (result.textContent !== text) {
        const [first, ...rest] = text.split("\n");
        const strong = document.createElement("b");
        strong.textContent = isLayer && rest.length ? rest.join("\n") : first;
        if (!rest.length) result.textContent = text;
        else if (isLayer) result.replaceChildren(`${first}\n`, strong);
        else result.replaceChildren(strong, `\n${rest.join("\n")}`);
        result.className = refused ? "refused" : "";
      }
      if (note) note.textContent = more;
      svg.setAttribute("aria-label", place ? `${placeWords(values, place)}. ${label}` : label);
      svg.innerHTML = scene.picture(values, place);
    };
    const move = (to) => {
      if (String(to) === String(place)) return;
      place = to;
      draw();
    };
    if (isLayer) {
      svg.tabIndex = 0;
      svg.setAttribute("data-lm-suppress-shortcuts", "true"); // or JupyterLab takes the arrow keys
      const point = ({ clientX, clientY }) => {
        const { left, top, width } = svg.getBoundingClientRect();
        const scale = WIDTH / width;
        move(pointed(scene.read(model), (clientX - left) * scale, (clientY - top) * scale));
      };
      svg.addEventListener("pointermove", point);
      svg.addEventListener("pointerdown", point); // of a finger that taps
      svg.addEventListener("pointerleave", ({ pointerType }) => {
        if (pointerType !== "touch") move(null); // a finger leaves when it is lifted
      });
      svg.addEventListener("blur", () => move(null));
      svg.addEventListener("keydown", (event) => {
        const step = KEYS[event.key];
        const { places } = layer(scene.read(model));
        if (!step || !places) return;
        event.preventDefault();
        move(place ? place.map((at, i) => Math.min(places - 1, Math.max(0, at + step[i]))) : [0, 0]);
      });
    }
    draw();
    el.append(root);
    const events = scene.traits.map((trait) => `change:${trait}`);
    for (const event of events) model.on(event, draw);
    const forget = nameControls(el);
    return () => {
      for (const event of events) model.off(event, draw);
      forget();
    };
  },
};
