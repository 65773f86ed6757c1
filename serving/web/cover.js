/** Covers drawn from a song's id: two hues, a slope and a figure, always the same for one id. */

const SVG = "http://www.w3.org/2000/svg";
let drawn = 0;

/** FNV-1a: spreads similar ids over all hues. */
function hash(text) {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  value ^= value >>> 15;
  return Math.imul(value, 0x2c1b3c6d) >>> 0;
}

export const hue = (id) => hash(id) % 360;

export function cover(id) {
  const seed = hash(id);
  const first = seed % 360;
  const second = (first + 35 + ((seed >>> 9) % 90)) % 360;
  const name = `cover-${drawn++}`;
  const svg = make("svg", { viewBox: "0 0 100 100", "aria-hidden": "true", focusable: "false" });
  const slope = make("linearGradient", {
    id: name,
    gradientTransform: `rotate(${(seed >>> 5) % 90} .5 .5)`,
  });
  slope.append(
    make("stop", { offset: "0", "stop-color": `hsl(${first} 68% 58%)` }),
    make("stop", { offset: "1", "stop-color": `hsl(${second} 62% 34%)` }),
  );
  svg.append(slope, make("rect", { width: 100, height: 100, fill: `url(#${name})` }), ...figure(seed));
  return svg;
}

function figure(seed) {
  const x = 18 + ((seed >>> 3) % 64);
  const y = 18 + ((seed >>> 12) % 64);
  const r = 16 + ((seed >>> 18) % 20);
  const light = { fill: "none", stroke: "#fff", "stroke-opacity": 0.34, "stroke-width": 2.4 };
  switch ((seed >>> 24) % 4) {
    case 0:
      return [0, 9, 18].map((more) => make("circle", { cx: x, cy: y, r: r + more, ...light }));
    case 1:
      return [0, 13, 26].map((down) =>
        make("path", { d: `M-5 ${y + down}q27-${r} 55 0t55 0`, ...light }));
    case 2:
      return [make("circle", { cx: x, cy: y, r: r + 10, fill: "#fff", "fill-opacity": 0.2 }),
        make("circle", { cx: 100 - x, cy: 100 - y, r, fill: "#000", "fill-opacity": 0.16 })];
    default:
      return [0, 1, 2, 3].map((i) =>
        make("rect", { x: 20 + i * 17, y: 78 - ((seed >>> (i * 5)) % 48), width: 9, height: 60, rx: 4.5,
          fill: "#fff", "fill-opacity": 0.28 }));
  }
}

function make(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
