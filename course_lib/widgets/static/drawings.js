// Draws a layer and a U-Net: from numbers to the inside of an SVG.

// The same as in course_lib.viz.COLORS. All are easy to see on white and on dark pages.
const BLUE = "#0072B2";
const ORANGE = "#D55E00";
const GREEN = "#009E73";
const PURPLE = "#AA4A85";
const RED = "#C81E1E";
// The first, the second and the last position of a kernel. They differ in dashes too, for those who see no color.
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

/** Slanted lines over a rectangle, placed so that they continue in the rectangle next to it. */
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

/** A square of count × count cells with a frame around first..last; the cells outside are hatched. */
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

/** Red over the rows and columns of a grid that the kernel never touches. */
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

/** The cells that a kernel touches at one position, and the square that it spans. */
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

/** Where the two grids stand. `single` has a cell for each position of the kernel; on `large` lies the kernel. */
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

/** The kernel's position, [row, column], under a point of the drawing, or null. */
export function pointed(values, x, y) {
  if (layer(values).refusal) return null;
  const { single, places } = frame(values);
  const at = [y - TOP, x - single.x].map((from) => Math.floor(from / single.cell));
  return at.every((i) => i >= 0 && i < places) ? at : null;
}

/** Draw a layer, with the kernel at the position `place`, [row, column], or else at its first two and its last. */
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

/** One position of the kernel in words. */
export function placeWords({ kind, kernel, padding }, [row, column]) {
  const transposed = kind === "transposed conv";
  const [name, does] = transposed ? ["input", "spreads over"] : ["output", "looks at"];
  const other = transposed ? "output" : padding ? "padded input" : "input";
  const cells = kernel === 1 ? "1 cell" : `${kernel} × ${kernel} cells`;
  return `${name} pixel in row ${row + 1}, column ${column + 1} ${does} ${cells} of the ${other}`;
}

/** Draw the sizes in a U-Net: down on the left, up on the right, the skips across. */
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
