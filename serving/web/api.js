/** Calls to the service. A refusal becomes an Error that says which field and why. */

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
  const answer = await fetch(path, options);
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(explained(answer.status, body));
  return body;
}

function explained(code, body) {
  if (!Array.isArray(body.detail)) return body.detail || body.error || `The service answered ${code}.`;
  return body.detail.map((fault) => `${fault.loc.join(".")}: ${fault.msg}`).join("; ");
}
