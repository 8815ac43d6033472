import { Option } from 'commander';
import { type AddCommand, act, collect } from '../command.js';

/** Commands that need no running installation, or start one: each loads a main by its path and runs it in this process, so that signals need no passing on. */
export const addLocal: AddCommand = (program, { cli, main, version }) => {
  program
    .command('up')
    .description('start everything one machine needs: PostgreSQL, Temporal, Ollama, api, engine and host')
    .option('--no-ollama', 'neither start nor build an Ollama; one that runs or that OLLAMA_HOST names is used')
    .option('--watch', 'start api, engine and host again when a source file changes', false)
    .action((options: { ollama: boolean; watch: boolean }) => main('up', 'runUp', { ...options, cli }));
  for (const [name, run, what] of [
    ['api', 'runApi', 'serve the HTTP API and the dashboard'],
    ['engine', 'runEngine', 'run workflows and steps without a model, and decide what runs next'],
    ['host', 'runHost', 'serve the models of this machine'],
    ['migrate', 'runMigrate', 'bring the database to the present schema'],
  ] as const) {
    program
      .command(name)
      .description(what)
      .action(() => main(name, run));
  }
  program
    .command('doctor')
    .description('say what this machine has and what it lacks; exit code 1 when something is missing')
    .action((_options, command) => main('doctor', 'runDoctor', { json: command.optsWithGlobals().json === true }));
  program
    .command('demo')
    .description('submit the built-in templates to a running installation and show how they go')
    .option('--model <name>', 'model to use (default: one that is installed, else a generated toy)')
    .option('--repo <url>', 'repository for git-script-execution, which is left out without it')
    .option('--script <path>', 'script of that repository to run', 'run.sh')
    .action(act<[], object>(async (session, options) => main('demo', 'runDemo', await session.client(), options)));
  program
    .command('validate <files...>')
    .description('check templates without a server: every fault with its line and column')
    .action((files: string[], _options, command) => main('validate', 'runValidate', { files, json: command.optsWithGlobals().json === true }));
  program
    .command('test [paths...]')
    .description('run the *.test.yaml files of templates (default: all that are installed)')
    .action((paths: string[], _options, command) => main('test-templates', 'runTemplateTests', { paths, json: command.optsWithGlobals().json === true }));
  program
    .command('docs')
    .description('write a page for each template and one for all step types')
    .option('--out <dir>', 'where to', 'docs')
    .option('--check', 'write nothing; exit code 1 when a page is stale')
    .option('-t, --template <name>', 'only this template; repeatable', collect)
    .action((options: { out: string; check?: boolean; template?: string[] }) =>
      main('docs', 'runDocs', { out: options.out, check: options.check === true, ...(options.template === undefined ? {} : { templates: options.template }) }),
    );
  const state = program.command('state').description('everything that the database holds, as one document');
  state
    .command('export [file]')
    .description('write it to a file, or to standard output')
    .action((file?: string) => main('state', 'runStateExport', file));
  state
    .command('import [file]')
    .description('bring it into an installation without tasks; - for standard input')
    .action((file?: string) => main('state', 'runStateImport', file));
  state
    .command('rebuild')
    .description('bring back tasks that Temporal still has and the database has lost')
    .action(() => main('state', 'runStateRebuild'));
  const keys = program.command('keys').description('API keys of people and programs; works on the database of this machine');
  keys
    .command('create <user>')
    .description('make a key and print it, this once')
    .addOption(new Option('--role <role>', 'what it may do').choices(['admin', 'user', 'viewer']).default('user'))
    .option('--name <text>', 'what it is for', 'made by orchestra keys create')
    .option('--expires <when>', 'days such as 90d, or a time (default: never)')
    .action((user: string, options: { role: string; name: string; expires?: string }, command) =>
      main('keys', 'runKeysCreate', {
        user,
        role: options.role,
        name: options.name,
        expires: options.expires ?? null,
        json: command.optsWithGlobals().json === true,
      }),
    );
  keys
    .command('list')
    .description('say which keys there are, never the keys themselves')
    .action((_options, command) => main('keys', 'runKeysList', { json: command.optsWithGlobals().json === true }));
  keys
    .command('revoke <id>')
    .description('make a key void')
    .action((id: string) => main('keys', 'runKeysRevoke', id));
  program
    .command('version')
    .description('print the version')
    .action(() => void process.stdout.write(`${version()}\n`));
};
