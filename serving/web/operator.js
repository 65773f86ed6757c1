/** The operator's view: what is served, how fast, from which sources, and what is missing. */

import * as api from "./api.js";
import { grown, histograms, parse, quantile, together } from "./metrics.js";
import { byId, element } from "./view.js";

const POLL_MS = 2000;
const PROBE_MS = 10000;
const WINDOW = 31;
const ANSWERS = "segue_answers_total";
const SECONDS = "segue_stage_seconds";
const NONE = "none";

const readings = [];
const history = [];
let served = null;

async function poll() {
  try {
    const samples = parse(await api.metrics()).filter(({ name }) => name.startsWith("segue_"));
    readings.push({ at: performance.now(), samples });
    if (readings.length > WINDOW) readings.shift();
    draw();
    say(null);
  } catch (error) {
    say(error.message);
  }
  setTimeout(poll, POLL_MS);
}

async function probe() {
  try {
    const [status, answer] = await Promise.all([
      api.status(), api.recommend({ user_id: null, k: 100, explain: true }),
    ]);
    drawServed(status, answer);
    drawSources(answer);
    drawState(answer.degraded);
  } catch (error) {
    drawState(["no answer"]);
    say(error.message);
  }
  setTimeout(probe, PROBE_MS);
}

function draw() {
  const [first, last] = [readings[0], readings.at(-1)];
  const seconds = Math.max((last.at - first.at) / 1000, 1e-3);
  const recent = grown(last.samples, first.samples);
  const answers = recent.filter(({ name }) => name === ANSWERS);
  const total = sum(answers);
  const missed = sum(answers.filter(({ labels }) => labels.degraded !== NONE));
  const answered = histograms(recent, SECONDS).filter(({ labels }) => labels.stage === "total");
  const buckets = together(answered);
  const [p50, p99] = [quantile(buckets, 0.5), quantile(buckets, 0.99)];
  byId("rate").textContent = (total / seconds).toFixed(1);
  byId("p50").textContent = ms(p50);
  byId("p99").textContent = ms(p99);
  byId("degraded").textContent = total ? `${((100 * missed) / total).toFixed(1)} %` : "–";
  history.push([p50, p99]);
  if (history.length > 150) history.shift();
  drawChart();
  drawTimes(last.samples);
  drawCounts(last.samples, recent, seconds);
}

const perMinute = (rate) => rate.toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const sum = (samples) => samples.reduce((all, { value }) => all + value, 0);
const ms = (seconds) => (seconds === null ? "–" : `${(1000 * seconds).toFixed(1)} ms`);

function drawChart() {
  const most = Math.max(...history.flat().map((value) => value ?? 0), 0.001);
  byId("chart").replaceChildren(...["p50", "p99"].map((name, which) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    const points = history.flatMap((pair, place) => pair[which] === null ? []
      : [`${(600 * place) / Math.max(history.length - 1, 1)},${116 - (110 * pair[which]) / most}`]);
    line.setAttribute("class", name);
    line.setAttribute("points", points.join(" "));
    return line;
  }));
  byId("scale").textContent =
    `Solid p50, dashed p99; the top is ${(1000 * most).toFixed(1)} ms. Read off the buckets of ${SECONDS}.`;
}

/** Name a row by its metric and labels; the version only where it is not the one that is served. */
function labelled({ name, labels }) {
  const { degraded, model_version: version, ...others } = labels;
  const words = [name.replace(/^segue_|_(total|seconds)$/g, "").replaceAll("_", " "), ...Object.values(others)];
  if (degraded && degraded !== NONE) words.push(`degraded: ${degraded}`);
  if (version && version !== served) words.push(version);
  return words.join(" · ");
}

function drawTimes(samples) {
  const names = new Set(samples.filter(({ name }) => name.endsWith("_bucket")).map(({ name }) => name.slice(0, -7)));
  fill("times", [...names].flatMap((name) => histograms(samples, name).map(({ labels, buckets }) => [
    labelled({ name, labels }), buckets.at(-1)[1].toLocaleString("en"),
    ...[0.5, 0.99].map((share) => ms(quantile(buckets, share)).replace(" ms", "")),
  ])));
}

function drawCounts(samples, recent, seconds) {
  const counters = samples.map((one, place) => [one, recent[place]])
    .filter(([{ name }]) => !/_(bucket|sum|count|created)$/.test(name));
  fill("counts", counters.map(([one, more]) => [
    labelled(one), one.value.toLocaleString("en"), perMinute((60 * more.value) / seconds),
  ]));
}

function drawSources({ songs }) {
  const counts = new Map();
  for (const name of songs.flatMap((song) => song.sources)) counts.set(name, (counts.get(name) ?? 0) + 1);
  fill("sources", [...counts].sort(([, one], [, other]) => other - one).map(([name, count]) => [name, String(count)]));
}

/** To the minute: 2023-12-26 23:59 UTC. The service gives its times in UTC. */
const moment = (text) => (text ? `${text.slice(0, 16).replace("T", " ")} UTC` : "unknown");

function drawServed(status, answer) {
  served = status.model_version;
  const facts = {
    version: status.model_version, "trained up to": moment(status.as_of), variant: answer.variant,
    songs: status.songs.toLocaleString("en"), features: status.feature_service ?? "unknown",
  };
  byId("served").replaceChildren(...Object.entries(facts).flatMap(([name, value]) =>
    [element("dt", "", name), element("dd", "", value)]));
}

function drawState(degraded) {
  const good = degraded.length === 0;
  byId("state").className = `state ${good ? "good" : "bad"}`;
  byId("state").textContent = good ? "All is well" : `Degraded: ${degraded.join(", ")}`;
}

function fill(id, rows) {
  byId(id).querySelector("tbody").replaceChildren(...rows.map((cells) => {
    const row = element("tr");
    row.append(...cells.map((cell) => element("td", "", cell)));
    return row;
  }));
}

function say(fault) {
  byId("fault").hidden = !fault;
  byId("fault").querySelector("span").textContent = fault ?? "";
}

poll();
probe();
