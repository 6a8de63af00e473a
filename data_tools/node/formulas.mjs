// TeX formulas to pictures: JSON lines {id, tex, display, em, font, draw} in, {id, png, text} or {id, error} out.
// The ink stands in the alpha channel; `text` is what MathJax has no glyph for. `draw: false` only checks.

import { createInterface } from 'node:readline'
import { Resvg } from '@resvg/resvg-js'
import { liteAdaptor } from 'mathjax-full/js/adaptors/liteAdaptor.js'
import { RegisterHTMLHandler } from 'mathjax-full/js/handlers/html.js'
import { TeX } from 'mathjax-full/js/input/tex.js'
import { mathjax } from 'mathjax-full/js/mathjax.js'
import { SVG } from 'mathjax-full/js/output/svg.js'
import 'mathjax-full/js/input/tex/AllPackages.js'

// neither noundefined and noerrors (wrong TeX would be drawn), nor what defines macros that outlive a formula,
// nor colours (the ink is one), links, or data attributes
const PACKAGES = ['base', 'ams', 'amscd', 'bbox', 'boldsymbol', 'braket', 'cancel', 'cases', 'centernot',
  'empheq', 'enclose', 'extpfeil', 'gensymb', 'mathtools', 'mhchem', 'textcomp', 'textmacros', 'upgreek']
const UNIT = 1000 // of a viewBox, in an em
const MARGIN = 250 // units around the box that MathJax computes: slanted ends and accents lie outside it
// what MathJax leaves to a page's style sheet; without it array rules and frames are not drawn
const STYLE = '<style>rect[data-frame],line[data-line]{stroke-width:70px;fill:none}.mjx-dashed{stroke-dasharray:140}' +
  '.mjx-dotted{stroke-linecap:round;stroke-dasharray:0,140}</style>'
const LARGEST_SIDE = 6000 // pixels

const adaptor = liteAdaptor()
RegisterHTMLHandler(adaptor)
const document = mathjax.document('', {
  InputJax: new TeX({ packages: PACKAGES, tags: 'none', formatError: (_, error) => { throw error } }),
  OutputJax: new SVG({ fontCache: 'none' }),
})

function draw({ tex, display, em, font, draw: drawn = true }) {
  const container = document.convert(tex, { display, em: 16, ex: 8, containerWidth: 1e6 })
  const svg = adaptor.firstChild(container)
  let markup = adaptor.outerHTML(svg)
  if (/data-mjx-error|<merror|data-mml-node="merror"/.test(markup)) return { error: 'MathJax draws an error' }
  const text = [...markup.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map((found) => found[1]).join('')
  const box = (adaptor.getAttribute(svg, 'viewBox') || '').split(' ').map(Number)
  if (box.length !== 4 || !box.every(Number.isFinite) || !(box[2] > 0 && box[3] > 0)) return { error: 'MathJax draws nothing' }
  const [x, y, width, height] = [box[0] - MARGIN, box[1] - MARGIN, box[2] + 2 * MARGIN, box[3] + 2 * MARGIN]
  const pixels = [width, height].map((length) => Math.ceil(length * em / UNIT))
  if (Math.max(...pixels) > LARGEST_SIDE) return { error: 'picture too large' }
  if (!drawn) return { text: decode(text) }
  // whole pixels, so that a unit is the same number of them in both directions
  const [wide, high] = pixels.map((length) => length * UNIT / em)
  markup = markup.replace(/^<svg[^>]*>/, `<svg xmlns="http://www.w3.org/2000/svg" width="${pixels[0]}" ` +
    `height="${pixels[1]}" viewBox="${x} ${y} ${wide} ${high}">${STYLE}`).replaceAll('currentColor', '#000')
  const options = font ? { fontFiles: [font.path], serifFamily: font.family, defaultFontFamily: font.family } : {}
  const image = new Resvg(markup, { font: { loadSystemFonts: false, ...(text ? options : {}) } }).render()
  return { png: image.asPng().toString('base64'), text: decode(text) }
}

function decode(text) {
  return text.replace(/&#x([0-9a-f]+);/gi, (_, code) => String.fromCodePoint(parseInt(code, 16)))
    .replace(/&lt;/g, '<').replace(/&gt;/g, '>').replace(/&amp;/g, '&')
}

for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line)
  let answer
  try {
    answer = draw(question)
  } catch (error) {
    answer = { error: error.message || String(error) }
  }
  console.log(JSON.stringify({ id: question.id, ...answer }))
}
