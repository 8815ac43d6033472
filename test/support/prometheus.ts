/** One sample of a scrape; `labels` in the order of their names. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Family {
  readonly type: string;
  readonly help: string;
  readonly samples: readonly Sample[];
}

const nameForm = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const sampleForm = new RegExp(`^(${nameForm})(?:\\{(.*)\\})? (\\+Inf|-Inf|NaN|[-+]?[0-9.]+(?:e[-+]?[0-9]+)?)$`);
const labelForm = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/;

/**
 * Reads Prometheus' text format 0.0.4 as strictly as its own checker: each family has HELP and TYPE before its samples and stands together, no sample comes
 * twice, counters end with `_total`, buckets are cumulative and end with `+Inf`, which is the count.
 * @throws Error that names the line or the family at fault
 */
export function parsePrometheus(text: string): ReadonlyMap<string, Family> {
  if (!text.endsWith('\n')) throw new Error('the last line has no end');
  const families = new Map<string, { type: string; help: string; samples: Sample[] }>();
  const seen = new Set<string>();
  let current = '';
  for (const line of text.slice(0, -1).split('\n')) {
    const help = new RegExp(`^# HELP (${nameForm}) (.+)$`).exec(line);
    const type = new RegExp(`^# TYPE (${nameForm}) (counter|gauge|histogram|summary|untyped)$`).exec(line);
    if (help !== null) {
      current = help[1] ?? '';
      if (families.has(current)) throw new Error(`${current} comes twice`);
      families.set(current, { type: '', help: help[2] ?? '', samples: [] });
    } else if (type !== null) {
      const family = families.get(type[1] ?? '');
      if (type[1] !== current || family === undefined || family.type !== '' || family.samples.length > 0) throw new Error(`misplaced: ${line}`);
      family.type = type[2] ?? '';
    } else {
      const [, name = '', written = '', value = ''] = sampleForm.exec(line) ?? [];
      const family = families.get(current);
      if (name === '' || family === undefined || family.type === '') throw new Error(`not a sample: ${line}`);
      const allowed = family.type === 'histogram' ? ['_bucket', '_sum', '_count'].map((end) => current + end) : [current];
      if (!allowed.includes(name)) throw new Error(`${name} is no sample of ${current}`);
      const labels: Record<string, string> = {};
      for (let rest = written; rest !== ''; ) {
        const label = labelForm.exec(rest);
        if (label?.[1] === undefined || label[1] in labels) throw new Error(`labels: ${line}`);
        labels[label[1]] = label[2] ?? '';
        rest = rest.slice(label[0].length);
      }
      const id = `${name}${JSON.stringify(Object.entries(labels).sort())}`;
      if (seen.has(id)) throw new Error(`twice: ${line}`);
      seen.add(id);
      family.samples.push({ name, labels, value: value === '+Inf' ? Infinity : Number(value) });
    }
  }
  for (const [name, family] of families) checkFamily(name, family);
  return families;
}

function checkFamily(name: string, { type, samples }: Family): void {
  if (type === '') throw new Error(`${name} has no type`);
  if (type === 'counter' && !name.endsWith('_total')) throw new Error(`the counter ${name} does not end with _total`);
  if (type !== 'gauge' && samples.some(({ value }) => !(value >= 0))) throw new Error(`${name} is below 0`);
  if (type !== 'histogram') return;
  const withoutLe = ({ labels }: Sample) =>
    JSON.stringify(
      Object.entries(labels)
        .filter(([label]) => label !== 'le')
        .sort(),
    );
  const counts = samples.filter((sample) => sample.name === `${name}_count`);
  for (const count of counts) {
    const buckets = samples.filter((sample) => sample.name === `${name}_bucket` && withoutLe(sample) === withoutLe(count));
    const bounds = buckets.map(({ labels }) => (labels['le'] === '+Inf' ? Infinity : Number(labels['le'])));
    const rising = (numbers: readonly number[], strictly: boolean) =>
      numbers.every((number, index) => index === 0 || (strictly ? number > (numbers[index - 1] ?? 0) : number >= (numbers[index - 1] ?? 0)));
    if (!rising(bounds, true) || bounds.at(-1) !== Infinity) throw new Error(`the bounds of ${name} do not rise to +Inf`);
    const values = buckets.map(({ value }) => value);
    if (!rising(values, false) || values.at(-1) !== count.value) throw new Error(`the buckets of ${name} do not add up to its count`);
    if (!samples.some((sample) => sample.name === `${name}_sum` && withoutLe(sample) === withoutLe(count))) throw new Error(`${name} has no sum`);
  }
  if (samples.some((sample) => sample.name === `${name}_bucket` && !counts.some((count) => withoutLe(count) === withoutLe(sample))))
    throw new Error(`buckets of ${name} have no count`);
}

/** The value of one sample; 0 when there is none. */
export function sampleOf(families: ReadonlyMap<string, Family>, name: string, labels: Readonly<Record<string, string>> = {}): number {
  const family = families.get(name) ?? families.get(name.replace(/_(bucket|sum|count)$/, ''));
  const found = family?.samples.find(
    (sample) =>
      sample.name === name &&
      Object.keys(sample.labels).length === Object.keys(labels).length &&
      Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
  );
  return found?.value ?? 0;
}
