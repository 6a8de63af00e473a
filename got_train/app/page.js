// The page: hands files in, draws boxes, shows answers as they grow. All text goes in as text, never as markup.
"use strict";

const SMALLEST = 5; // thousandths; a shorter drag is a click, which takes the box away
const MOST_WORDS = 3000; // that two answers are compared by
const state = { about: null, file: null, number: 1, box: null, abort: null, cards: [] };

// What fails is said at the top; what was broken off is not.
const careful =
  (work) =>
  async (...given) => {
    try {
      await work(...given);
    } catch (error) {
      if (error.name !== "AbortError") sayFault(error);
    }
  };

// ---- the file and its pages

const handIn = careful(async (files) => {
  say("");
  if (!free()) return;
  if (files.length !== 1) throw new Error(`${files.length} files; hand in one at a time`);
  const [file] = files;
  const most = state.about.limits.megabytes;
  if (file.size > most * 2 ** 20) throw new Error(`${file.name}: over ${most} MB; a smaller file`);
  stop();
  const body = await fetch(`files?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
  state.file = await (await answered(body)).json();
  state.cards = [];
  turnTo(1);
});

// Whether nothing is lost when the answers go.
const unsaved = () => state.cards.some((card) => card.answer && text(card) !== card.saved);
const free = () => !unsaved() || confirm("Leave the correction unsaved?");

function turnTo(number) {
  if (!free()) return;
  stop();
  state.number = number;
  const { key, name, pages } = state.file;
  $("image").src = `files/${key}/${number}`;
  $("name").textContent = pages > 1 ? `${name}, page ${number} of ${pages}` : name;
  $("before").hidden = $("after").hidden = pages === 1;
  $("before").disabled = number === 1;
  $("after").disabled = number === pages;
  $("sheet").hidden = $("read").disabled = false;
  setBox(null);
  makeCards();
}

// ---- the region

function rectangle(box, kind, title) {
  const [x1, y1, x2, y2] = box;
  const made = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  const sides = { x: x1, y: y1, width: x2 - x1, height: y2 - y1, class: kind };
  for (const [name, value] of Object.entries(sides)) made.setAttribute(name, value);
  if (title) {
    const told = document.createElementNS("http://www.w3.org/2000/svg", "title");
    told.textContent = title;
    made.append(told);
  }
  $("marks").append(made);
}

function setBox(box, typed) {
  state.box = box;
  if (box) $("color").value = "";
  $("marks").querySelectorAll(".region").forEach((each) => each.remove());
  if (box) rectangle(box, "region");
  if (!typed) $("box").value = box ? box.join(",") : "";
}

function typedBox() {
  const text = $("box").value.trim();
  const box = text ? text.split(",").map(Number) : null;
  const fits = !box || (box.length === 4 && box.every((each) => Number.isInteger(each) && each >= 0 && each <= 1000));
  const fault = fits && !(box && (box[0] >= box[2] || box[1] >= box[3])) ? "" : "x1,y1,x2,y2 in thousandths of the page";
  $("box").setCustomValidity(fault);
  setBox(fault ? null : box, true);
}

function place(event) {
  const around = $("image").getBoundingClientRect();
  const part = (at, low, side) => Math.round(Math.min(1, Math.max(0, (at - low) / side)) * 1000);
  return [part(event.clientX, around.left, around.width), part(event.clientY, around.top, around.height)];
}

// What goes with the task: no tiles of lines with boxes; a region in one view only, named in one way.
function fit(event) {
  const spot = $("task").value === "spot";
  $("untaught").hidden = !spot;
  $("crop").disabled = spot;
  if (spot) $("crop").value = "single";
  const whole = spot || $("crop").value !== "single";
  if (whole || (event?.target === $("color") && $("color").value)) setBox(null);
  if (whole) $("color").value = "";
  $("box").disabled = $("color").disabled = whole;
  $("region-hint").hidden = whole;
}

function drawBoxes() {
  const picture = $("picture");
  let start = null;
  const between = ([x1, y1], [x2, y2]) => [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
  const large = ([x1, y1, x2, y2]) => x2 - x1 >= SMALLEST && y2 - y1 >= SMALLEST;
  picture.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch") $("finger").hidden = false;
    if ($("box").disabled || event.button || (event.pointerType === "touch" && !picture.classList.contains("drawing"))) return;
    start = place(event);
    picture.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  picture.addEventListener("pointermove", (event) => {
    if (start) setBox(between(start, place(event)));
  });
  picture.addEventListener("pointerup", (event) => {
    if (!start) return;
    const box = between(start, place(event));
    start = null;
    $("box").setCustomValidity("");
    setBox(large(box) ? box : null);
  });
  picture.addEventListener("pointercancel", () => {
    start = null;
    setBox(null);
  });
}

// ---- reading

function makeCards() {
  $("answers").replaceChildren();
  $("marks").querySelectorAll(".model-0, .model-1").forEach((each) => each.remove());
  state.cards = state.about.models.map((model, place) => {
    const article = $("answer").content.cloneNode(true).querySelector("article");
    const find = (what) => article.querySelector(what);
    const card = { model, place, find, answer: null, asked: null };
    find("h2").textContent = model.split("/").filter(Boolean).slice(-2).join("/");
    find("h2").title = model;
    find(".shaded").addEventListener("change", (event) =>
      find(".raw").classList.toggle("unshaded", !event.target.checked),
    );
    find(".copy").addEventListener("click", careful(() => navigator.clipboard.writeText(text(card))));
    find(".download").addEventListener("click", careful(() => download(card)));
    find(".show").addEventListener("click", careful(() => render(card)));
    find(".keep").addEventListener("click", careful(() => keep(card)));
    ready(card, false);
    $("answers").append(article);
    return card;
  });
}

function ready(card, is) {
  for (const what of [".copy", ".download", ".show", ".keep", "textarea"]) card.find(what).disabled = !is;
}

const text = (card) => card.find("textarea").value;

const readAll = careful(async () => {
  say("");
  if (!free()) return;
  stop();
  const abort = (state.abort = new AbortController());
  $("stop").disabled = false;
  makeCards();
  const asked = {
    key: state.file.key,
    number: state.number,
    task: $("task").value,
    crop: $("crop").value,
    box: state.box,
    color: $("color").value || null,
  };
  try {
    await Promise.all(state.cards.map((card) => read(card, asked, abort.signal)));
    compare();
  } catch (error) {
    abort.abort();
    throw error;
  } finally {
    if (state.abort === abort) stop();
  }
});

function stop() {
  state.abort?.abort();
  state.abort = null;
  $("stop").disabled = true;
}

async function read(card, asked, signal) {
  const tell = (said) => (card.find(".state").textContent = said);
  card.asked = asked;
  tell("waiting for its turn");
  try {
    const response = await post("read", { ...asked, model: card.model }, signal);
    for await (const event of events(response.body)) {
      if (event.begun) tell("reading");
      if (event.text) card.find(".raw").append(event.text);
      if (event.error) {
        tell("failed");
        throw new Error(event.error);
      }
      if (event.answer) await show(card, event.answer);
    }
  } catch (error) {
    if (error.name === "AbortError") tell("stopped");
    throw error;
  }
}

async function* events(body) {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

async function show(card, answer) {
  card.answer = answer;
  const raw = card.find(".raw");
  raw.replaceChildren();
  for (const [word, sure] of answer.words) raw.append(sure === null ? word : shaded(word, sure));
  for (const { text, box } of answer.boxes) rectangle(box, `model-${card.place}`, text);
  card.find("textarea").value = card.saved = answer.text;
  ready(card, true);
  card.find(".state").textContent = summary(answer);
  await render(card);
}

function shaded(word, sure) {
  const made = document.createElement("span");
  made.textContent = word;
  made.title = `${Math.round(sure * 100)} %`;
  if (sure < 0.9) made.className = sure < 0.5 ? "sure-1" : sure < 0.7 ? "sure-2" : "sure-3";
  return made;
}

function summary(answer) {
  const tiles = answer.task.startsWith("multi_crop") ? ", in tiles" : "";
  const scale = `confidence ${answer.calibrated ? "" : "not "}calibrated`;
  const odd = answer.faults.length;
  const faults = odd && `${odd} ${odd > 1 ? "lines are" : "line is"} not read as a box and its text: ${answer.faults[0]}`;
  const parts = [`${answer.tokens} tokens, ${answer.seconds} s${tiles}, ${scale}`, answer.ended, faults];
  return parts.filter(Boolean).join("; ");
}

// ---- what is done with an answer

const exported = async (card, format) => {
  const { key, number } = card.asked;
  return post("render", { key, number, task: card.answer.task, text: text(card), format });
};

async function render(card) {
  card.find("iframe").srcdoc = await (await exported(card, "html")).text();
}

async function download(card) {
  const format = card.find(".format").value;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await (await exported(card, format)).blob());
  const stem = state.file.name.replace(/\.[^.]*$/, "");
  link.download = `${stem}${state.file.pages > 1 ? `_${String(card.asked.number).padStart(4, "0")}` : ""}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function keep(card) {
  const { key, number, box, color, model } = card.asked;
  const button = card.find(".keep");
  button.disabled = true; // until it is saved: a second click would save it twice
  try {
    const replaced = card.answer.text; // kept beside the correction, for training on preferences
    const asked = { key, number, box, color, model, replaced, task: card.answer.task, text: text(card) };
    const { file, records } = await (await post("corrections", asked)).json();
    card.saved = asked.text;
    card.find(".kept").textContent = `saved: record ${records} of ${file}`;
    say("");
  } finally {
    button.disabled = false;
  }
}

// Words of either answer that are not in the longest common subsequence of both.
function compare() {
  const [one, two] = state.cards.map((card) => [...card.find(".raw").querySelectorAll("span")]);
  if (!two || Math.max(one.length, two.length) > MOST_WORDS) return;
  const width = two.length + 1;
  const common = new Uint16Array((one.length + 1) * width);
  const same = (i, j) => one[i].textContent === two[j].textContent;
  for (let i = one.length - 1; i >= 0; i--)
    for (let j = two.length - 1; j >= 0; j--)
      common[i * width + j] = same(i, j)
        ? common[(i + 1) * width + j + 1] + 1
        : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
  let i = 0;
  let j = 0;
  while (i < one.length || j < two.length) {
    if (i < one.length && j < two.length && same(i, j)) {
      i++;
      j++;
    } else if (j === two.length || (i < one.length && common[(i + 1) * width + j] >= common[i * width + j + 1]))
      one[i++].classList.add("different");
    else two[j++].classList.add("different");
  }
}

// ---- start

function listen() {
  const drop = $("drop");
  for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
  addEventListener("dragover", () => drop.classList.add("over"));
  addEventListener("dragleave", () => drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    drop.classList.remove("over");
    if (event.dataTransfer.files.length) handIn(event.dataTransfer.files);
  });
  $("file").addEventListener("change", async () => {
    if ($("file").files.length) await handIn($("file").files);
    $("file").value = ""; // so that the same file can be chosen again
  });
  $("before").addEventListener("click", () => turnTo(state.number - 1));
  $("after").addEventListener("click", () => turnTo(state.number + 1));
  $("image").addEventListener("load", ({ target }) =>
    $("picture").style.setProperty("--ratio", target.naturalWidth / target.naturalHeight),
  );
  $("image").addEventListener("error", () => say("This page cannot be shown; hand the file in again."));
  $("box").addEventListener("input", typedBox);
  $("finger").addEventListener("click", () => {
    const on = $("picture").classList.toggle("drawing");
    $("finger").setAttribute("aria-pressed", on);
  });
  $("question").addEventListener("submit", (event) => {
    event.preventDefault();
    readAll();
  });
  $("stop").addEventListener("click", stop);
  addEventListener("beforeunload", (event) => {
    if (unsaved()) event.preventDefault();
  });
  for (const what of ["task", "crop", "color"]) $(what).addEventListener("change", fit);
  fit(); // a browser may have kept the choices of the time before
  drawBoxes();
}

careful(async () => {
  state.about = await (await answered(await fetch("about"))).json();
  const { models, limits, queue } = state.about;
  $("to-queue").hidden = !queue;
  $("limits").textContent = `up to ${limits.megabytes} MB, ${limits.pages} pages`;
  $("file").accept = limits.kinds.join(",");
  $("answers").classList.toggle("two", models.length === 2);
  $("different-words").hidden = models.length === 1;
  makeCards();
  listen();
})();
