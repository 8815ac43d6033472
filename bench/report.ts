import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { cpus, totalmem } from 'node:os';
import path from 'node:path';

/** One figure beside its peer, measured in the same run, and its bar. */
export interface Figure {
  readonly name: string;
  readonly ours: string;
  readonly peer: string;
  readonly ratio: string;
  readonly bar: string;
  readonly met: boolean | null;
}

/** A chart that a bench draws, for `docs/plots`. */
export interface Plot {
  readonly file: string;
  readonly alt: string;
  readonly svg: string;
}

export interface Section {
  readonly title: string;
  /** what was run, in one or two sentences */
  readonly method: string;
  /** whom the second column shows; default: raw Temporal */
  readonly peer?: string;
  readonly figures: readonly Figure[];
  readonly notes?: readonly string[];
  readonly plots?: readonly Plot[];
}

/** The machine as a reader has to know it: cores, memory, versions. */
export function machine(): string {
  const cores = cpus();
  return `${cores.length} x ${cores[0]?.model.trim() ?? 'unknown processor'}, ${Math.round(totalmem() / 2 ** 30)} GiB, ${process.platform}, Node ${process.versions.node}`;
}

export function toMarkdown(section: Section): string {
  const rows = section.figures.map(
    (figure) =>
      `| ${figure.name} | ${figure.ours} | ${figure.peer} | ${figure.ratio} | ${figure.bar} | ${figure.met === null ? '' : figure.met ? 'yes' : 'no'} |`,
  );
  const notes = (section.notes ?? []).map((note) => `- ${note}`);
  const plots = (section.plots ?? []).map(({ file, alt }) => `![${alt}](plots/${file})`);
  return [
    `## ${section.title}`,
    '',
    section.method,
    '',
    `| figure | ours | ${section.peer ?? 'raw Temporal'} | ratio | bar | met |`,
    '|---|---|---|---|---|---|',
    ...rows,
    ...(notes.length > 0 ? ['', ...notes] : []),
    ...(plots.length > 0 ? ['', ...plots] : []),
    '',
  ].join('\n');
}

/** Replaces one section of docs/benchmarks.md, or adds it, and draws its plots beside it; the other sections stay as they were measured. */
export async function writeSection(file: string, id: string, section: Section): Promise<void> {
  const begin = `<!-- ${id} -->`;
  const end = `<!-- /${id} -->`;
  const text = await readFile(file, 'utf8');
  const block = `${begin}\n${toMarkdown(section)}\nMeasured ${new Date().toISOString().slice(0, 10)} on ${machine()}.\n${end}`;
  const from = text.indexOf(begin);
  const to = text.indexOf(end);
  for (const { file: name, svg } of section.plots ?? []) {
    await mkdir(path.join(path.dirname(file), 'plots'), { recursive: true });
    await writeFile(path.join(path.dirname(file), 'plots', name), svg);
  }
  await writeFile(file, from >= 0 && to > from ? text.slice(0, from) + block + text.slice(to + end.length) : `${text.trimEnd()}\n\n${block}\n`);
}
