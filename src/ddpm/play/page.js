// The page's controls and images. Every change of a control draws the images again.
import { draw, end, get } from "./ask.js";
import { Mask } from "./mask.js";
import { Tiles } from "./tiles.js";

const $ = (id) => document.getElementById(id);
const controls = $("controls").elements;
const choices = await get("choices");
let network; // the chosen one: img_shape, max_steps, classes, guided
let frames = []; // of the latest samples, from noise to image
let drawn = null; // images of the latest samples, once drawn
let picked = 0; // index of the chosen one
let noise = 0; // seed for inpainting

const mask = new Mask($("mask"), $("brush"), later(fill));
const tiles = { drawn: new Tiles($("drawn"), pick), filled: new Tiles($("filled")), mixed: new Tiles($("mixed")) };

// Debounce calls, as of a slider that is being dragged.
function later(work, ms = 150) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, ms);
  };
}

const classOf = (i) => (network.classes.length ? Number(controls.label.value || i % network.classes.length) : null);
const nameOf = (i) => [`Sample ${i + 1}`, network.classes[classOf(i)]].filter(Boolean).join(", ");
const size = () => network.img_shape.reduce((a, b) => a * b);
const sample = () => drawn.subarray(picked * size(), (picked + 1) * size());

function words() {
  const guidance_scale = network.guided ? Number(controls.guidance_scale.value) : 1;
  return { network: controls.network.value, n_steps: Number(controls.n_steps.value), guidance_scale };
}

function sampling() {
  const options = {};
  for (const field of $("options").querySelectorAll("[data-option]")) {
    options[field.dataset.option] = field.type === "range" ? Number(field.value) : field.value;
  }
  return { ...words(), sampler: controls.sampler.value, options, spacing: controls.spacing.value };
}

function say(part, words, mistake = false) {
  $(`${part}-said`).textContent = words;
  $(`${part}-said`).classList.toggle("mistake", mistake);
}

// Draw, and show the progress in words. Returns the last frame, or null if there is none.
async function told(part, path, asked, show) {
  const start = performance.now();
  say(part, "Drawing ...");
  try {
    const last = await draw(part, path, asked, show);
    if (last) say(part, `Drawn in ${((performance.now() - start) / 1000).toFixed(1)} s.`);
    return last;
  } catch (error) {
    say(part, error.message, true);
    return null;
  }
}

async function drawSamples() {
  stop();
  drawn = null;
  ["filled", "mixed"].forEach(end);
  const coming = [];
  const label = network.classes.length && controls.label.value ? Number(controls.label.value) : null;
  const last = await told("drawn", "draw", { ...sampling(), seed: Number(controls.seed.value), label }, (frame) => {
    coming.push(frame);
    frames = coming;
    $("moment").max = controls.n_steps.value;
    showMoment(coming.length - 1);
  });
  if (!last) return;
  drawn = last.images;
  pick(picked);
}

function showMoment(i) {
  const { num_steps, images } = frames[i];
  tiles.drawn.show(images, network.img_shape, nameOf);
  $("moment").value = i;
  $("left").textContent = `t = ${num_steps}`;
  $("moment").setAttribute("aria-valuetext", `t = ${num_steps}, noise steps left`);
}

function pick(i) {
  picked = i;
  if (!drawn) return;
  mask.over(sample(), network.img_shape);
  fill();
  mix();
}

async function fill() {
  if (!drawn) return;
  const asked = { ...words(), label: classOf(picked), seed: noise, n_resamples: Number($("resamples").value) };
  const filled = { image: [...sample()], mask: mask.hidden };
  await told("filled", "fill", { ...asked, ...filled }, ({ images }) => tiles.filled.show(images, network.img_shape));
}

async function mix() {
  if (!drawn) return;
  const label = classOf(picked);
  const shape = network.img_shape;
  const first = sample();
  const other = await told("mixed", "draw", { ...sampling(), label, seed: Number($("other").value), n: 1 });
  if (!other) return;
  const asked = { ...words(), label, num_steps: Number($("depth").value), images: [[...first], [...other.images]] };
  await told("mixed", "mix", asked, ({ images }) => {
    const row = new Uint8Array([...first, ...images, ...other.images]);
    const last = row.length / size() - 1;
    tiles.mixed.show(row, shape, (i) => (i === 0 ? "Chosen sample" : i === last ? "Other seed" : `Interpolated image ${i}`));
  });
}

let film = null;
function stop() {
  clearInterval(film);
  film = null;
  $("play").textContent = "\u25b6";
}

function play() {
  if (film) return stop();
  let i = 0;
  $("play").textContent = "\u25a0";
  film = setInterval(() => {
    if (i >= frames.length) return stop();
    showMoment(i++);
  }, Math.min(Math.max(3000 / frames.length, 20), 200));
}

function options() {
  const made = Object.entries(choices.samplers[controls.sampler.value].options).map(([name, schema]) => {
    const field = Object.assign(document.createElement("label"), { className: "field", textContent: `${name} ` });
    const input = document.createElement(schema.enum ? "select" : "input");
    if (schema.enum) input.append(...schema.enum.map((value) => new Option(value, value)));
    else {
      const [min, max] = [schema.minimum, schema.maximum];
      Object.assign(input, { type: "range", min, max, step: (max - min) / 20 });
    }
    input.value = schema.default;
    input.dataset.option = name;
    field.append(schema.enum ? "" : document.createElement("output"), input);
    return field;
  });
  $("options").replaceChildren(...made);
  controls.n_steps.min = choices.samplers[controls.sampler.value].min_steps;
}

async function choose() {
  ["drawn", "filled", "mixed"].forEach(end);
  drawn = null;
  say("drawn", "Loading ...");
  const name = controls.network.value;
  try {
    const found = await get(`network?${encodeURIComponent(name)}`);
    if (name !== controls.network.value) return; // another has been chosen since
    network = found;
  } catch (error) {
    say("drawn", error.message, true);
    return;
  }
  controls.n_steps.max = network.max_steps;
  $("depth").max = network.max_steps;
  $("depth").value = Math.ceil(network.max_steps / 2);
  $("classes").hidden = !network.classes.length;
  $("guidance").hidden = !network.guided;
  const each = new Option("each in turn", "");
  controls.label.replaceChildren(each, ...network.classes.map((name, i) => new Option(name, i)));
  outputs();
  await drawSamples();
}

// Update the number next to each slider that has one.
function outputs() {
  for (const slider of document.querySelectorAll("label output + input[type=range]")) {
    slider.previousElementSibling.textContent = Number(Number(slider.value).toFixed(2));
  }
}

controls.network.append(...choices.networks.map((name) => new Option(name, name)));
$("networks").hidden = choices.networks.length === 1;
controls.sampler.append(...Object.keys(choices.samplers).map((name) => new Option(name, name)));
controls.sampler.value = choices.defaults.sampler;
controls.spacing.append(...choices.spacings.map((name) => new Option(name, name)));
controls.spacing.value = choices.defaults.spacing;
controls.seed.value = choices.defaults.seed;
controls.n_steps.value = controls.n_steps.max = choices.defaults.n_steps; // until a network is chosen
options();

const redraw = later(drawSamples);
$("controls").addEventListener("submit", (event) => event.preventDefault());
$("controls").addEventListener("input", ({ target }) => {
  if (target === controls.sampler) options();
  if (target === controls.network) choose();
  else redraw();
});
document.addEventListener("input", outputs);
$("moment").addEventListener("input", () => {
  stop();
  if (frames.length) showMoment(Math.min($("moment").value, frames.length - 1));
});
$("play").addEventListener("click", play);
$("resamples").addEventListener("input", later(fill));
$("again").addEventListener("click", () => {
  noise++;
  fill();
});
for (const button of document.querySelectorAll("[data-half]")) {
  button.addEventListener("click", () => {
    mask.half(button.dataset.half);
    fill();
  });
}
for (const button of document.querySelectorAll("[data-seed]")) {
  button.addEventListener("click", () => {
    $(button.dataset.seed).value = Math.floor(Math.random() * 10_000);
    $(button.dataset.seed).dispatchEvent(new Event("input", { bubbles: true }));
  });
}
for (const id of ["other", "depth"]) $(id).addEventListener("input", later(mix));
await choose();
