/** Who listens: a known listener, any id, or someone new with a small sign-up. */

import { byId, element, option } from "./view.js";

const NEW = "new";
const NEWCOMER = "newcomer";
const BY_ID = "by-id";
const KNOWN = "known:";

export function setUpListener(listeners, vocabulary, listenAs) {
  const choice = byId("listener");
  const dialog = byId("sign-up");
  fillChoice(choice, listeners);
  let before = choice.value;
  let newcomer = null;
  fillSignUp(vocabulary);

  choice.addEventListener("change", () => {
    byId("by-id").hidden = choice.value !== BY_ID;
    if (choice.value === NEW) dialog.showModal();
    else if (choice.value === BY_ID) byId("user-id").focus();
    else if (choice.value === NEWCOMER) welcome();
    else chosen(choice.value.slice(KNOWN.length));
  });
  byId("by-id").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = byId("user-id").value.trim();
    if (id) chosen(id);
  });
  dialog.addEventListener("close", () => {
    if (dialog.returnValue === "start") {
      newcomer = profile(dialog.querySelector("form"));
      nameNewcomer(choice, newcomer);
      welcome();
    } else choice.value = before;
    dialog.returnValue = "";
  });

  function chosen(id) {
    before = choice.value;
    listenAs({ user_id: id, profile: null }, `Listening as ${id}.`);
  }

  function welcome() {
    before = choice.value;
    listenAs({ user_id: null, profile: newcomer }, "Listening as someone new.");
  }

  if (listeners.length) chosen(listeners[0].user_id);
  else welcome();
}

function fillChoice(choice, listeners) {
  choice.replaceChildren(
    ...listeners.map(({ user_id, label }) => option(KNOWN + user_id, `${label} (${user_id})`)),
    option(NEW, "Someone new …"),
    option(BY_ID, "Another id …"),
  );
  if (!listeners.length) choice.prepend(option(NEWCOMER, "Nobody in particular"));
  choice.selectedIndex = 0;
}

/** Give the newcomer an entry of their own, so that "Someone new" can be chosen again. */
function nameNewcomer(choice, { birth_year, region }) {
  choice.querySelector(`[value="${NEWCOMER}"]`)?.remove();
  const about = [birth_year && `born ${birth_year}`, region].filter(Boolean).join(", ");
  choice.prepend(option(NEWCOMER, about ? `Newcomer, ${about}` : "Newcomer"));
  choice.value = NEWCOMER;
}

function fillSignUp({ region, language }) {
  byId("region").replaceChildren(option("", "Rather not say"), ...region.map((name) => option(name, name)));
  byId("languages").replaceChildren(...language.map((name) => {
    const label = element("label", "tick");
    const box = element("input");
    Object.assign(box, { type: "checkbox", name: "languages", value: name });
    label.append(box, element("span", "", languageName(name)));
    return label;
  }));
}

function languageName(code) {
  try {
    return new Intl.DisplayNames(["en"], { type: "language" }).of(code) ?? code;
  } catch {
    return code;
  }
}

function profile(form) {
  const said = new FormData(form);
  const year = Number(said.get("birth_year"));
  const made = { languages: said.getAll("languages"), utc_offset_minutes: -new Date().getTimezoneOffset() };
  if (year) made.birth_year = year;
  if (said.get("region")) made.region = said.get("region");
  return made;
}
