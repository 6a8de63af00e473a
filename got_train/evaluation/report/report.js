"use strict";
(() => {
  const at_once = 20;
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const data = read("data");
  const pictures = read("pictures");
  const samples = data.samples;
  const list = document.getElementById("samples");
  const more = document.getElementById("more");
  const shown = document.getElementById("shown");
  const controls = document.getElementById("controls");
  let found = [];
  let drawn = 0;

  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const visible = (text) => text.replace(/ /g, "\u00b7").replace(/\t/g, "\u21e5").replace(/\n/g, "\u21b5\n");
  const number = (value) => (value === null || value === undefined ? "-" : String(Math.round(value * 1e4) / 1e4));

  // edits: [kind, start and end in the reference, start and end in the answer], in code points
  const difference = (reference, answer, edits) => {
    const box = make("div", "text");
    box.dir = "auto";
    const ours = Array.from(reference);
    const theirs = Array.from(answer);
    let place = 0;
    const same = (end) => {
      if (end > place) box.append(ours.slice(place, end).join(""));
    };
    for (const [from, to, start, end] of edits) {
      same(from);
      if (to > from) box.append(make("del", "", visible(ours.slice(from, to).join(""))));
      if (end > start) box.append(make("ins", "", visible(theirs.slice(start, end).join(""))));
      place = to;
    }
    same(ours.length);
    if (!box.childNodes.length) box.append(make("span", "soft", "(nothing on either side)"));
    return box;
  };

  const chips = (sample) => {
    const row = make("div", "chips");
    for (const name of data.shown) {
      if (sample.s[name] !== undefined) row.append(make("span", "", name + " " + number(sample.s[name])));
    }
    for (const name of Object.keys(sample.s)) {
      if (name.includes(".")) row.append(make("span", "", name + " " + number(sample.s[name])));
    }
    for (const name of sample.f) row.append(make("span", "fault", name));
    for (const name of Object.keys(sample.g)) {
      if (sample.g[name]) row.append(make("span", "", name + ": " + sample.g[name]));
    }
    return row;
  };

  const sides = (sample) => {
    const look = make("div", "look");
    for (const [title, markup] of [["reference", sample.l[0]], ["answer", sample.l[1]]]) {
      const side = make("div");
      side.append(make("h4", "", title + ", drawn"));
      const inner = make("div");
      // made of a few known tags where the report was written, never the answer's own markup
      inner.innerHTML = markup || "";
      side.append(inner);
      look.append(side);
    }
    return look;
  };

  const folded = (title, text) => {
    const details = make("details");
    details.append(make("summary", "", title));
    details.addEventListener("toggle", () => {
      if (details.open && details.childNodes.length === 1) {
        const box = make("div", "text", text);
        box.dir = "auto";
        details.append(box);
      }
    });
    return details;
  };

  const card = (place) => {
    const sample = samples[place];
    const article = make("article", "sample");
    article.append(make("h3", "", sample.n), chips(sample));
    if (sample.e) article.append(make("p", "worse", "failed: " + sample.e));
    const body = make("div", "body");
    const picture = sample.i === undefined ? null : pictures[sample.i];
    if (picture && picture.uri) {
      const image = make("img");
      image.src = picture.uri;
      image.alt = "the picture that was read";
      image.loading = "lazy";
      const left = make("div");
      left.append(image);
      if (picture.more) left.append(make("p", "soft", "and " + picture.more + " more pictures"));
      body.append(left);
    } else {
      body.classList.add("alone");
      if (picture) article.append(make("p", "soft", "no picture: " + picture.cause));
    }
    const right = make("div");
    if (sample.b !== undefined) {
      right.append(make("h4", "soft", "before"), difference(sample.r, sample.b, sample.c));
      right.append(make("h4", "soft", "now"));
    }
    right.append(difference(sample.r, sample.p, sample.o));
    if (sample.l) right.append(sides(sample));
    right.append(folded("reference alone", sample.r), folded("answer alone", sample.p));
    body.append(right);
    article.append(body);
    return article;
  };

  const draw = () => {
    const end = Math.min(found.length, drawn + at_once);
    const part = document.createDocumentFragment();
    for (; drawn < end; drawn += 1) part.append(card(found[drawn]));
    list.append(part);
    more.hidden = drawn >= found.length;
    shown.textContent = found.length + " of " + samples.length + " samples, " + drawn + " shown";
  };

  const wanted = () => {
    const asked = {};
    for (const control of controls.querySelectorAll("[data-group]")) {
      if (control.value) asked[control.dataset.group] = control.value;
    }
    const words = document.getElementById("words").value.toLowerCase();
    const fault = document.getElementById("fault").value;
    return (place) => {
      const sample = samples[place];
      if (Object.keys(asked).some((name) => (sample.g[name] || "") !== asked[name])) return false;
      if (fault && !sample.f.includes(fault)) return false;
      return !words || (sample.n + "\n" + sample.r + "\n" + sample.p).toLowerCase().includes(words);
    };
  };

  const filter = () => {
    const order = document.getElementById("order").value;
    found = data.orders[order].filter(wanted());
    drawn = 0;
    list.replaceChildren();
    draw();
  };

  let waiting = 0;
  controls.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 120);
  });
  more.addEventListener("click", draw);
  filter();
})();
