/** Calls to the service. A refusal becomes a Fault that says which field and why. */

/** What was not answered; `passing` where the same question may be answered a little later. */
class Fault extends Error {
  constructor(message, passing) {
    super(message);
    this.passing = passing;
  }
}

export const status = () => call("/status");
export const listeners = () => call("/listeners?k=50");
export const search = (words, signal) =>
  call(`/songs/search?k=8&q=${encodeURIComponent(words)}`, { signal });

export const recommend = (request, signal) =>
  call("/recommend", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(request),
    signal,
  });

const CLOCK_MS = 60_000;
let ahead = -Infinity;

/** Heed how far the service's clock is ahead of this machine's, which may be wrong. */
function heedClock(answer) {
  const found = Date.parse(answer.headers.get("date")) - Date.now();
  // Rounding and the way make it less, never more; much less is a clock that was put right.
  if (found > ahead || found < ahead - CLOCK_MS) ahead = found;
}

/** Return a moment of this machine's clock by the service's; undefined where that is not known. */
export const momentOf = (at) => (ahead > -Infinity ? new Date(at + ahead).toISOString() : undefined);

/** Post events; returns the answer's status. `keepalive` lets them outlive the page. */
export async function sendEvents(events) {
  const answer = await fetch("/events", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ events }),
    keepalive: true,
  });
  return answer.status;
}

export async function metrics() {
  const answer = await fetch("/metrics");
  if (!answer.ok) throw new Error(`/metrics answered ${answer.status}.`);
  return answer.text();
}

async function call(path, options = {}) {
  const answer = await fetch(path, options).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Fault("The service cannot be reached.", true);
  });
  heedClock(answer);
  const body = await answer.json().catch(() => ({}));
  const { ok, status } = answer;
  if (!ok) throw new Fault(explained(status, body), status === 429 || status >= 500);
  return body;
}

function explained(code, body) {
  if (!Array.isArray(body.detail)) return body.detail || body.error || `The service answered ${code}.`;
  return body.detail.map((fault) => `${fault.loc.join(".")}: ${fault.msg}`).join("; ");
}
