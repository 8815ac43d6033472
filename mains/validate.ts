import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { steps } from '../activities/steps/index.js';
import { visibleJson, visibleLine, visibleText } from '../contract/visible.js';
import { parseTemplate } from '../templates/parse-template.js';

/** `orchestra validate`: checks files of templates; stores, renders and runs nothing. Exit code 1 when one has a fault, 2 when one cannot be read. */
export async function runValidate({ files, json }: { readonly files: readonly string[]; readonly json: boolean }): Promise<void> {
  const verdicts: { file: string; valid: boolean; faults: readonly string[] }[] = [];
  for (const file of files) {
    const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
      process.stderr.write(`orchestra validate: ${visibleLine(file)} cannot be read: ${error.code ?? error.message}.\n`);
      process.exitCode = 2;
      return null;
    });
    if (text === null) continue;
    const parsed = parseTemplate(path.basename(file), text, steps);
    const faults = 'faults' in parsed ? parsed.faults.map(({ message }) => message) : [];
    verdicts.push({ file, valid: faults.length === 0, faults });
    if (faults.length > 0) process.exitCode ??= 1;
  }
  if (json) process.stdout.write(`${visibleJson({ items: verdicts })}\n`);
  else for (const { file, valid, faults } of verdicts) process.stdout.write(visibleText(valid ? `${file}: ok\n` : `${faults.join('\n')}\n`));
}
