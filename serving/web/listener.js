/** Who listens: a known listener, any id, or someone new. */

import { setUpSignUp } from "./signup.js";
import { byId, option } from "./view.js";

const NEW = "new";
const NEWCOMER = "newcomer";
const BY_ID = "by-id";
const KNOWN = "known:";

export function setUpListener(listeners, vocabulary, listenAs) {
  const choice = byId("listener");
  fillChoice(choice, listeners);
  let before = choice.value;
  let newcomer = { profile: null, songs: [] };
  const signUp = setUpSignUp(vocabulary, (said) => {
    if (said) {
      newcomer = said;
      nameNewcomer(choice, said.profile);
      welcome();
    } else {
      choice.value = before;
      drawById();
    }
  });

  choice.addEventListener("change", () => {
    drawById();
    if (choice.value === NEW) signUp();
    else if (choice.value === BY_ID) byId("user-id").focus();
    else if (choice.value === NEWCOMER) welcome();
    else chosen(choice.value.slice(KNOWN.length));
  });
  byId("by-id").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = byId("user-id").value.trim();
    if (id) chosen(id);
  });

  function drawById() {
    byId("by-id").hidden = choice.value !== BY_ID;
  }

  function chosen(id) {
    before = choice.value;
    listenAs({ user_id: id, profile: null }, [], `Listening as ${id}.`);
  }

  function welcome() {
    before = choice.value;
    listenAs({ user_id: null, profile: newcomer.profile }, newcomer.songs, "Listening as someone new.");
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
