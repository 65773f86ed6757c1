/** Line icons on a 24-unit grid. */

const PATHS = {
  play: "M8 5.2v13.6L19 12z",
  pause: "M8 5v14M16 5v14",
  next: "M6 5.5v13L15 12zM18 5.5v13",
  skip: "M6 6l12 12M18 6L6 18",
  like: "M12 20s-7.5-4.6-7.5-10A4.2 4.2 0 0 1 12 7.4 4.2 4.2 0 0 1 19.5 10c0 5.4-7.5 10-7.5 10z",
  add: "M12 5v14M5 12h14",
  info: "M12 11v6M12 7.4v.2M21 12a9 9 0 1 1-18 0a9 9 0 0 1 18 0z",
  added: "M5 12.5l4.5 4.5L19 7.5",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon ${name}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}
