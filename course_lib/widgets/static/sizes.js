// The arithmetic of course_lib.shapes, and what the text panels say about it: from numbers to words.
// tests/widgets/test_sizes.py compares every number and every sentence with the library's.

export const KINDS = ["conv", "pool", "transposed conv"];

/** What comes out of a layer, {out, formula} or {refusal}, and how its kernel moves: it spans `reach` cells, and has
 *  `places` positions along an axis of `full` cells, padding included. */
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

/** The rows of the larger grid, padding included, that the kernel touches at one position. */
export function taps({ kernel, stride, dilation }, place) {
  return Array.from({ length: kernel }, (_, i) => place * stride + i * dilation);
}

/** How often the kernel touches each row of the larger grid, padding left out. */
export function touched(values) {
  const { full, places } = layer(values);
  const counts = new Array(full).fill(0);
  for (let place = 0; place < places; place++) for (const row of taps(values, place)) counts[row] += 1;
  return counts.slice(values.padding, full - values.padding);
}

/** A size halved and doubled: {down, up, problem}, as course_lib.shapes.halve. */
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

/** What the text panels of a layer say, and a label that describes the drawing. */
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

/** What the text panel of a U-Net says, and a label that describes the drawing. */
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
