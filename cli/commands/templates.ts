import type { TemplateSummaryView } from '../../contract/schemas/template-view.js';
import { type AddCommand, act } from '../command.js';
import { exitCodes } from '../failure.js';
import { type Column, printTable } from '../terminal.js';
import { visibleLine, visibleText } from '../visible.js';

const columns: readonly Column<TemplateSummaryView>[] = [
  { title: 'NAME', value: ({ name }) => name },
  { title: 'SOURCE', value: ({ source }) => source },
  { title: 'PARAMETERS', value: ({ parameters }) => parameters.map(({ name, required }) => (required ? name : `[${name}]`)).join(' '), flexible: true },
  { title: 'DESCRIPTION', value: ({ description }) => description, flexible: true },
];

export const addTemplates: AddCommand = (program) => {
  const templates = program.command('templates').description('what tasks are made of');
  templates
    .command('list', { isDefault: true })
    .description('list the templates')
    .action(
      act<[], object>(async (session) => {
        const list = await (await session.client()).templates.list();
        if (session.json) return session.printJson(list);
        printTable(session.terminal, columns, list.items);
        for (const { file, faults } of list.broken) session.terminal.note(`${visibleLine(file)} is broken: ${visibleLine(faults[0]?.message ?? '')}`);
      }),
    );
  templates
    .command('show <name>')
    .description('show the page of a template: parameters, steps, how to submit it')
    .option('--yaml', 'its file instead')
    .action(
      act<[name: string], { yaml?: boolean }>(async (session, options, name) => {
        const client = await session.client();
        if (session.json) return session.printJson(await client.templates.get(name));
        const text = options.yaml ? (await client.templates.get(name)).yaml : await client.templates.docs(name);
        session.terminal.write(visibleText(text));
      }),
    );
  templates
    .command('schema')
    .description('print the JSON Schema of template files, for editors')
    .action(act<[], object>(async (session) => session.printJson(await (await session.client()).templates.schema())));
  templates
    .command('check <file>')
    .description('check a template as the server would read it')
    .action(
      act<[file: string], object>(async (session, _options, file) => {
        const { readText } = await import('../parameters.js');
        const verdict = await (await session.client()).templates.validate(readText(file), { fileName: file.replace(/^.*\//, '') });
        if (!verdict.valid) process.exitCode = exitCodes.failed;
        if (session.json) return session.printJson(verdict);
        for (const { message } of verdict.faults) session.terminal.print(visibleLine(message));
        for (const warning of verdict.warnings) session.terminal.note(visibleLine(warning));
        if (verdict.valid) session.terminal.print(`${file} is a template: ${visibleLine(verdict.template?.name ?? '')}`);
      }),
    );
};
