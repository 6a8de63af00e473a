// Sets Mathpix markdown in one browser page that stays open, without any network.
// Question: {chromium, markdown, font: path, css, width, paper}; css may name the family "page".
// Answer: {png: base64, text, formulas, cells, clipped} or {error}; text is what the page says, formulas apart.

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import mathpix from "mathpix-markdown-it";
import puppeteer from "puppeteer-core";

const { MathpixMarkdownModel } = mathpix;
const OPTIONS = {
  htmlTags: false,
  typographer: false, // quotes and dashes stay as they are typed
  linkify: false,
  isDisableEmoji: true,
  isDisableEmojiShortcuts: true,
  outMath: {
    include_svg: true,
    include_table_html: true,
    include_mathml: false,
    include_asciimath: false,
    include_latex: false,
    include_tsv: false,
  },
};
const LONGEST = 4000; // pixels
// fonts from the internet are not there; the page has its own
const STYLE = MathpixMarkdownModel.getMathpixStyle(true).replace(/@import[^;]*;/g, "");
const SWITCHES = [
  "--host-resolver-rules=MAP * 0.0.0.0",
  "--allow-file-access-from-files",
  "--disable-gpu",
  "--disable-lcd-text",
  "--font-render-hinting=none",
  "--force-color-profile=srgb",
  "--hide-scrollbars",
  ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []), // its sandbox refuses root
];

let browser = null;
let page = null;
const families = new Map(); // path -> family in this page

async function openPage(chromium) {
  if (page) return;
  browser = await puppeteer.launch({ executablePath: chromium, args: SWITCHES, pipe: true, headless: true });
  page = await browser.newPage();
  await page.setOfflineMode(true);
  await page.goto(import.meta.url); // any file: only pages of files may read fonts from files
}

async function family(path) {
  if (!families.has(path)) {
    const name = `page${families.size}`;
    const url = pathToFileURL(path).href; // read by the browser; Chinese fonts have 20 MB
    await page.evaluate(
      async (name, url) => {
        document.fonts.add(await new FontFace(name, `url("${url}")`).load());
      },
      name,
      url,
    );
    families.set(path, name);
  }
  return families.get(path);
}

// mathpix-markdown-it reports wrong TeX to the console and draws it in red
function toHtml(markdown) {
  const faults = [];
  const said = console.error;
  const told = console.log;
  console.error = console.log = (...words) => faults.push(words.join(" "));
  try {
    const html = MathpixMarkdownModel.markdownToHTML(markdown, OPTIONS);
    const wrong = /data-mjx-error|merror|math-error|class="[^"]*error/.test(html);
    return { html, fault: faults[0] ?? (wrong ? "error marks in the page" : null) };
  } finally {
    console.error = said;
    console.log = told;
  }
}

// Runs in the page.
async function lay(html, style, family) {
  document.head.innerHTML = `<style>${style}</style>`;
  document.body.innerHTML = `<div id="preview-content"><div id="setText">${html}</div></div>`;
  await document.fonts.ready;
  const root = document.getElementById("setText");
  const wide = (each) => {
    const shown = getComputedStyle(each);
    const block = shown.display !== "inline" && each.clientWidth > 0;
    return block && !each.closest("svg") && each.scrollWidth > each.clientWidth + 1;
  };
  const own = root.getBoundingClientRect();
  const outside = (each) => {
    const box = each.getBoundingClientRect();
    return box.right > own.right + 1 || box.left < own.left - 1 || box.bottom > document.documentElement.scrollHeight;
  };
  const everything = [...root.querySelectorAll("*")].filter((each) => !each.closest("svg"));
  const strange = everything.some(
    (each) => each.childNodes.length && each.textContent.trim() && !getComputedStyle(each).fontFamily.startsWith(family),
  );
  return {
    text: root.innerText,
    formulas: root.querySelectorAll("mjx-container").length,
    words: root.querySelectorAll("mjx-container svg text").length,
    cells: root.querySelectorAll("td").length,
    clipped: wide(document.documentElement) || everything.some((each) => wide(each) || outside(each)),
    strange,
    height: Math.ceil(document.documentElement.scrollHeight),
  };
}

async function draw({ chromium, markdown, font, css, width }) {
  const { html, fault } = toHtml(markdown);
  if (fault) return { error: "mathpix-markdown-it cannot set a formula", message: fault };
  await openPage(chromium);
  const name = await family(font);
  const style = STYLE + css.replaceAll('"page"', name);
  await page.setViewport({ width, height: 600 });
  const found = await page.evaluate(lay, html, style, name);
  if (found.words) return { error: "letters of another font in a formula" };
  if (found.strange) return { error: "text in another font" };
  if (found.height > LONGEST) return { error: "page too long" };
  await page.setViewport({ width, height: found.height });
  const png = await page.screenshot({ type: "png", encoding: "base64", optimizeForSpeed: true });
  return { ...found, png };
}

for await (const question of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(question);
  let answer;
  try {
    answer = await draw(asked);
  } catch (error) {
    answer = { failure: String(error.message ?? error) };
  }
  process.stdout.write(JSON.stringify({ ...answer, id: asked.id }) + "\n");
}
await browser?.close();
