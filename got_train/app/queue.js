// The queue: one draft after the other, by keys. All text goes in as text, never as markup.
"use strict";

const WIDE = 2.5; // times as wide as high: a line, under which its text stands
const state = { item: null, typed: new Map(), busy: false };

const asked = async (path, body) => (await (body ? post(path, body) : answered(await fetch(path)))).json();

// One thing at a time: a key that is held down does not save twice. What fails is said at the top.
const careful =
  (work) =>
  async (...given) => {
    if (state.busy) return;
    state.busy = true;
    try {
      say("");
      await work(...given);
    } catch (error) {
      sayFault(error);
    } finally {
      state.busy = false;
    }
  };

// ---- a draft

async function show(place, text) {
  const item = (state.item = await asked(`drafts/${place}`));
  count(item);
  $("review").hidden = false;
  $("over").hidden = true;
  $("name").textContent = `${place + 1} of ${item.total}: ${item.name}`;
  pictures(item);
  $("text").value = text ?? state.typed.get(place) ?? item.text;
  readers(item);
  fit();
  $("text").blur();
  scrollTo(0, 0);
}

function pictures({ place, pictures }) {
  const images = Array.from({ length: pictures }, (_, number) => {
    const image = new Image();
    image.alt = `Picture ${number + 1}`;
    image.src = `drafts/${place}/${number}`;
    image.addEventListener("load", () => {
      $("review").classList.toggle("wide", image.naturalWidth > WIDE * image.naturalHeight);
      fit(); // the text has another width now
    });
    image.addEventListener("error", () => say("The picture cannot be shown; has its file been moved?"));
    return image;
  });
  $("pictures").replaceChildren(...images);
}

function count({ total, left, accepted, corrected, file }) {
  $("counts").textContent = `${left} left of ${total}; ${accepted} accepted, ${corrected} corrected`;
  $("bar").max = total;
  $("bar").value = total - left;
  $("counts").title = `Saved in ${file}`;
}

const percent = (value) => `${Math.round(value * 100)} %`;

function readers({ answers, agreement }) {
  const shown = answers.find((answer) => answer.text !== null);
  const sure = shown.confidence === null ? "" : `, ${percent(shown.confidence)} sure`;
  const agreed = agreement === null ? "" : `; the readers agree by ${percent(agreement)}`;
  $("origin").textContent = `Draft by ${shown.by}${sure}${agreed}`;
  const others = answers.length > 1 ? answers : [];
  $("readers").replaceChildren(
    ...others.map((answer, index) => {
      const entry = document.createElement("li");
      const take = document.createElement("button");
      const key = document.createElement("kbd");
      key.textContent = index + 1;
      take.type = "button";
      take.append(key, ` ${answer.by}`);
      take.disabled = answer.text === null;
      take.addEventListener("click", () => takeOver(index));
      const text = document.createElement("pre");
      if (answer.text === null) text.textContent = answer.failed;
      else if (answer.text === shown.text) text.textContent = "as the draft";
      else text.append(...marked(answer.text, shown.text));
      text.classList.toggle("hint", text.childElementCount === 0);
      entry.append(take, text);
      return entry;
    }),
  );
}

// The text with what is not as in the draft marked: all between their common start and end. Of these only the
// lines that it touches are shown.
function marked(text, draft) {
  let start = 0;
  let end = 0;
  const most = Math.min(text.length, draft.length);
  while (start < most && text[start] === draft[start]) start++;
  while (end < most - start && text[text.length - 1 - end] === draft[draft.length - 1 - end]) end++;
  const differs = document.createElement("mark");
  differs.textContent = text.slice(start, text.length - end);
  const [before, after] = [text.slice(0, start), text.slice(text.length - end)];
  const first = before.lastIndexOf("\n") + 1;
  const last = after.indexOf("\n");
  return [
    first ? `...\n${before.slice(first)}` : before,
    differs,
    last < 0 ? after : `${after.slice(0, last)}\n...`,
  ];
}

// The field as high as its text, and the button as what it does.
function fit() {
  const { item } = state;
  if (!item) return;
  const field = $("text");
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + 2}px`;
  const text = field.value.trim();
  const read = item.answers.some((answer) => answer.text !== null && answer.text.trim() === text);
  $("accept").querySelector("span").textContent = read ? "Accept" : "Save the correction";
  const inField = document.activeElement === field;
  $("accept").querySelector("kbd").textContent = inField && !isLine() ? "Ctrl+Enter" : "Enter";
  $("editing").hidden = !inField;
  $("editing").textContent = isLine()
    ? "Enter saves, Shift+Enter begins a line, Esc leaves the text."
    : "Ctrl+Enter saves, Esc leaves the text.";
  $("next").disabled = $("before").disabled = item.left < 2;
  $("undo").disabled = item.accepted + item.corrected === 0;
}

const isLine = () => !state.item.text.includes("\n");

function takeOver(index) {
  const text = state.item?.answers[index]?.text;
  if (text === undefined || text === null) return;
  $("text").value = text;
  remember();
}

function remember() {
  state.typed.set(state.item.place, $("text").value);
  fit();
}

// ---- what the keys do

const accept = careful(async () => {
  const { place } = state.item;
  const saved = await asked("accept", { place, text: $("text").value });
  state.typed.delete(place);
  await goTo(saved, saved.next);
});

const turn = (way) =>
  careful(async () => {
    if (state.item[way] !== null) await show(state.item[way]);
  });

const undo = careful(async () => {
  const { place, text } = await asked("undo", {});
  await show(place, text);
});

async function goTo(counts, place) {
  if (place !== null) return show(place);
  count(counts);
  state.item = null;
  $("review").hidden = true;
  $("over").hidden = false;
  $("over").textContent = `All ${counts.total} drafts are done: ${counts.accepted} accepted, ${counts.corrected} corrected. `;
  $("over").append(`The rows are in ${counts.file}. u takes the last one back.`);
}

const KEYS = {
  Enter: accept,
  e: edit,
  n: turn("next"),
  ArrowRight: turn("next"),
  p: turn("before"),
  ArrowLeft: turn("before"),
  u: undo,
};

function edit() {
  $("text").focus();
  $("text").setSelectionRange($("text").value.length, $("text").value.length);
  fit();
}

function press(event) {
  if (event.isComposing || event.altKey || event.metaKey) return;
  const field = event.target === $("text");
  const saves = event.key === "Enter" && (event.ctrlKey || (isLineKey(event) && field));
  if (field && event.key === "Escape") $("text").blur();
  else if (field && !saves) return;
  else if (saves) accept();
  else if (event.ctrlKey || event.shiftKey) return;
  else if (event.target.tagName === "BUTTON" && event.key === "Enter") return; // the button is pressed
  else if (!state.item && event.key !== "u") return;
  else if (/^[1-9]$/.test(event.key)) takeOver(Number(event.key) - 1);
  else if (KEYS[event.key]) KEYS[event.key]();
  else return;
  event.preventDefault();
}

const isLineKey = (event) => state.item !== null && isLine() && !event.shiftKey;

// ---- start

careful(async () => {
  const about = await asked("about");
  $("to-page").hidden = about.models.length === 0;
  addEventListener("keydown", press);
  for (const [id, work] of [["accept", accept], ["edit", edit], ["next", KEYS.n], ["before", KEYS.p], ["undo", undo]])
    $(id).addEventListener("click", (event) => {
      event.currentTarget.blur(); // so that Enter accepts, and does not press it again
      work();
    });
  $("text").addEventListener("input", remember);
  for (const what of ["focus", "blur"]) $("text").addEventListener(what, fit);
  addEventListener("resize", fit);
  const first = await asked("drafts");
  await goTo(first, first.next);
})();
