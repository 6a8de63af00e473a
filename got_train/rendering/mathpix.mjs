// Sets Mathpix markdown: a JSON list of texts on stdin, a JSON list of HTML on stdout; the folder of the npm
// packages is the one argument. Nothing is fetched; HTML in the texts is text.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(process.argv[2] + "/");
const { MathpixMarkdownModel } = require("mathpix-markdown-it");
const OPTIONS = {
  htmlTags: false,
  typographer: false, // quotes and dashes stay as they are
  linkify: false,
  isDisableEmoji: true,
  isDisableEmojiShortcuts: true,
  outMath: {
    include_svg: true,
    include_latex: true, // the source, for a formula that cannot be set
    include_table_html: true,
    include_mathml: false,
    include_asciimath: false,
    include_tsv: false,
  },
};

// the packages tell of faults on stdout too
const say = process.stdout.write.bind(process.stdout);
console.log = console.warn = console.error = console.info = () => {};
const texts = JSON.parse(readFileSync(0, "utf8"));
const pages = texts.map((text) => {
  try {
    return { html: MathpixMarkdownModel.markdownToHTML(text, OPTIONS) };
  } catch (error) {
    return { fault: String(error.message ?? error) };
  }
});
say(JSON.stringify(pages));
