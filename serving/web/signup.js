/** Someone new: when they were born, their region and languages, and what they love already. */

import { languageName } from "./steer.js";
import { onTyping, pickFirst } from "./typing.js";
import { artistsOf, byId, dress, element, option, titleOf } from "./view.js";

const MOST = 6;

/** Fill the dialog; `done` gets a profile and loved songs, or null where it was cancelled. */
export function setUpSignUp({ region, language }, done) {
  const dialog = byId("sign-up");
  const loved = new Loved();
  byId("region").replaceChildren(option("", "Rather not say"), ...region.map((name) => option(name, name)));
  byId("languages").replaceChildren(...language.map((code) => tick("languages", code)));
  byId("refused").replaceChildren(...language.map((code) => tick("refused_languages", code)));
  setUpFavourites(loved);
  dialog.addEventListener("close", () => {
    const form = dialog.querySelector("form");
    done(dialog.returnValue === "start" ? { profile: profile(form, loved), songs: loved.songs } : null);
    dialog.returnValue = "";
  });
  return () => dialog.showModal();
}

class Loved {
  constructor() {
    this.all = new Map();
  }

  get artists() {
    return [...this.all.values()].filter((one) => one.artist).map((one) => one.artist);
  }

  get songs() {
    return [...this.all.values()].filter((one) => one.song).map((one) => one.song);
  }

  toggle(name, one) {
    if (!this.all.delete(name)) this.all.set(name, one);
    byId("favourites").replaceChildren(...[...this.all].map(([name]) => this.token(name)));
  }

  token(name) {
    const item = element("li", "token");
    const remove = element("button", "round small");
    remove.type = "button";
    dress(remove, "skip", `Remove ${name}`);
    remove.addEventListener("click", () => this.toggle(name));
    item.append(element("span", "", name), remove);
    return item;
  }
}

function setUpFavourites(loved) {
  const box = byId("favourite");
  const list = byId("favourite-found");
  const { stop, settle } = onTyping(box, show);

  function show(songs, words, instead = "Nothing found") {
    list.replaceChildren(...choices(songs, words).slice(0, MOST).map(row));
    if (!songs.length) list.append(element("li", "none", instead));
    list.hidden = !words;
  }

  function row([name, one]) {
    const item = element("li");
    const pick = element("button", "pick", one.artist ? `${name} (artist)` : name);
    pick.type = "button";
    pick.addEventListener("click", () => {
      stop();
      if (!loved.all.has(name)) loved.toggle(name, one);
      box.value = "";
      list.hidden = true;
      box.focus();
    });
    item.append(pick);
    return item;
  }

  box.addEventListener("keydown", async (event) => {
    if (event.key !== "Enter") return;
    // Else the form would be sent.
    event.preventDefault();
    if (await settle()) pickFirst(list);
  });
}

/** Artists whose name holds the words, then songs. */
function choices(songs, words) {
  const wanted = words.toLowerCase();
  const artists = new Set(songs.flatMap((song) => song.artists).filter((name) => name.toLowerCase().includes(wanted)));
  return [
    ...[...artists].map((artist) => [artist, { artist }]),
    ...songs.map((song) => [`${titleOf(song)} by ${artistsOf(song)}`, { song }]),
  ];
}

function tick(name, code) {
  const label = element("label", "tick");
  const box = element("input");
  Object.assign(box, { type: "checkbox", name, value: code });
  label.append(box, element("span", "", languageName(code)));
  return label;
}

function profile(form, loved) {
  const said = new FormData(form);
  const year = Number(said.get("birth_year"));
  const made = { languages: said.getAll("languages"), utc_offset_minutes: -new Date().getTimezoneOffset() };
  if (year) made.birth_year = year;
  if (said.get("region")) made.region = said.get("region");
  if (said.getAll("refused_languages").length) made.refused_languages = said.getAll("refused_languages");
  if (loved.artists.length) made.favourite_artists = loved.artists;
  return made;
}
