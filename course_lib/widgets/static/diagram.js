// The widget: draws a layer or a U-Net again when a slider moves, and lets you point at a pixel, or choose one with the
// arrow keys, to see the kernel there. It needs no Python while it runs.

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

/** The widget's elements: the words above, the drawing, and for a layer a note below. */
function parts(name) {
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
  const [result, note] = [panel("result"), name === "layer" ? panel("note") : null];
  result.setAttribute("role", "status"); // a screen reader says what a slider has changed
  if (note) {
    svg.before(result);
    svg.after(note);
  } else svg.after(result);
  return { root, svg, result, note };
}

/** Put a text of several lines into an element. The sizes of a layer, or the verdict on a U-Net, are bold. */
function write(result, text, refused, isLayer) {
  if (result.textContent === text) return;
  const [first, ...rest] = text.split("\n");
  const strong = document.createElement("b");
  strong.textContent = isLayer && rest.length ? rest.join("\n") : first;
  if (!rest.length) result.textContent = text;
  else if (isLayer) result.replaceChildren(`${first}\n`, strong);
  else result.replaceChildren(strong, `\n${rest.join("\n")}`);
  result.className = refused ? "refused" : "";
}

/** Let a pointer or the arrow keys choose the kernel's position: `move` gets [row, column], or null for none. */
function letPoint(svg, read, place, move) {
  svg.tabIndex = 0;
  svg.setAttribute("data-lm-suppress-shortcuts", "true"); // without this, JupyterLab takes the arrow keys
  const point = ({ clientX, clientY }) => {
    const { left, top, width } = svg.getBoundingClientRect();
    const scale = WIDTH / width;
    move(pointed(read(), (clientX - left) * scale, (clientY - top) * scale));
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point); // for a finger that taps
  svg.addEventListener("pointerleave", ({ pointerType }) => {
    if (pointerType !== "touch") move(null); // a finger "leaves" whenever it is lifted
  });
  svg.addEventListener("blur", () => move(null));
  svg.addEventListener("keydown", (event) => {
    const step = KEYS[event.key];
    const { places } = layer(read());
    if (!step || !places) return;
    event.preventDefault();
    const here = place();
    move(here ? here.map((at, i) => Math.min(places - 1, Math.max(0, at + step[i]))) : [0, 0]);
  });
}

export default {
  render({ model, el }) {
    const name = model.get("scene");
    const scene = SCENES[name];
    const { root, svg, result, note } = parts(name);
    const read = () => scene.read(model);
    let place = null;
    const draw = () => {
      const values = read();
      const { refused, result: text, note: more, label } = scene.words(values);
      if (place) {
        const { places } = layer(values);
        place = places ? place.map((at) => Math.min(at, places - 1)) : null;
      }
      write(result, text, refused, name === "layer");
      if (note) note.textContent = more;
      svg.setAttribute("aria-label", place ? `${placeWords(values, place)}. ${label}` : label);
      svg.innerHTML = scene.picture(values, place);
    };
    const move = (to) => {
      if (String(to) === String(place)) return;
      place = to;
      draw();
    };
    if (name === "layer") letPoint(svg, read, () => place, move);
    draw();
    el.append(root);
    const events = scene.traits.map((trait) => `change:${trait}`);
    for (const event of events) model.on(event, draw);
    const forget = watchControls(el);
    return () => {
      for (const event of events) model.off(event, draw);
      forget();
    };
  },
};
