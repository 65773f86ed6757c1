/** Reads Prometheus' text format, and what lies between two readings of it. */

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** Return the samples as {name, labels, value}. */
export function parse(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const found = line.startsWith("#") ? null : LINE.exec(line);
    if (!found) continue;
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(LABEL)].map(([, key, value]) => [key, value]));
    samples.push({ name: found[1], labels, value: Number(found[3]) });
  }
  return samples;
}

const keyOf = ({ name, labels }) => `${name}|${JSON.stringify(labels)}`;

/** Return the samples with what they grew by since the earlier ones; a restart begins at zero. */
export function grown(now, before) {
  const old = new Map(before.map((one) => [keyOf(one), one.value]));
  return now.map((one) => {
    const was = old.get(keyOf(one)) ?? 0;
    return { ...one, value: one.value >= was ? one.value - was : one.value };
  });
}

/** Group a histogram's buckets by their other labels: [{labels, buckets: [[bound, count]]}], cumulative. */
export function histograms(samples, name) {
  const groups = new Map();
  for (const { labels, value } of samples.filter((one) => one.name === `${name}_bucket`)) {
    const { le, ...rest } = labels;
    const key = JSON.stringify(rest);
    if (!groups.has(key)) groups.set(key, { labels: rest, buckets: [] });
    groups.get(key).buckets.push([le === "+Inf" ? Infinity : Number(le), value]);
  }
  for (const group of groups.values()) group.buckets.sort(([one], [other]) => one - other);
  return [...groups.values()];
}

/** Add histograms of the same bounds up. */
export function together(groups) {
  const sums = new Map();
  for (const { buckets } of groups) {
    for (const [bound, count] of buckets) sums.set(bound, (sums.get(bound) ?? 0) + count);
  }
  return [...sums].sort(([one], [other]) => one - other);
}

/** Return the quantile of cumulative buckets, straight between bounds; null without a count. */
export function quantile(buckets, share) {
  const total = buckets.at(-1)?.[1] ?? 0;
  if (!total) return null;
  const wanted = share * total;
  let [low, below] = [0, 0];
  for (const [bound, count] of buckets) {
    if (count >= wanted) {
      if (bound === Infinity) return low;
      return low + (bound - low) * ((wanted - below) / Math.max(count - below, 1e-12));
    }
    [low, below] = [bound, count];
  }
  return low;
}
