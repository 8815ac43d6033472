#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';

// The command line knows no room but contract/: a main is loaded by its path when it is asked for, so that
// `orchestra version` loads nothing of it, and runs in this process, so that signals need no passing on.
const here = fileURLToPath(import.meta.url);
const extension = here.endsWith('.ts') ? 'ts' : 'js';

async function main<Options>(name: string, run: string, options?: Options): Promise<void> {
  const module = (await import(new URL(`../mains/${name}.${extension}`, import.meta.url).href)) as Record<string, (options?: Options) => Promise<void>>;
  await module[run]?.(options);
}

function version(): string {
  for (const path of ['../package.json', '../../package.json']) {
    try {
      return (JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as { version: string }).version;
    } catch {
      // one folder further up, when this runs from dist/
    }
  }
  return 'unknown';
}

const program = new Command('orchestra')
  .description('AI Task Orchestra: queues, schedules and runs AI tasks on local models, durably.')
  .version(version())
  .showHelpAfterError()
  // Mistakes of usage end with 2, as those of the configuration do.
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));

program
  .command('up')
  .description('start everything one machine needs: PostgreSQL, Temporal, Ollama, api, engine and host')
  .option('--no-ollama', 'neither start nor build an Ollama; one that runs or that OLLAMA_HOST names is used')
  .option('--watch', 'start api, engine and host again when a source file changes', false)
  .action((options: { ollama: boolean; watch: boolean }) => main('up', 'runUp', { ...options, cli: here }));
program
  .command('api')
  .description('serve the HTTP API and the dashboard')
  .action(() => main('api', 'runApi'));
program
  .command('engine')
  .description('run workflows and steps without a model, and decide what runs next')
  .action(() => main('engine', 'runEngine'));
program
  .command('host')
  .description('serve the models of this machine')
  .action(() => main('host', 'runHost'));
program
  .command('migrate')
  .description('bring the database to the present schema')
  .action(() => main('migrate', 'runMigrate'));
program
  .command('demo')
  .description('submit the built-in templates to a running installation and show how they go')
  .option('--api <url>', 'address of the API (default: that of the installation in ORCHESTRA_HOME)')
  .option('--model <name>', 'model to use (default: one that is installed, else a generated toy)')
  .option('--repo <url>', 'repository for git-script-execution, which is left out without it')
  .option('--script <path>', 'script of that repository to run', 'run.sh')
  .action((options: { api?: string; model?: string; repo?: string; script: string }) => main('demo', 'runDemo', options));
program
  .command('doctor')
  .description('say what this machine has and what it lacks')
  .action(() => main('doctor', 'runDoctor'));
program
  .command('version')
  .description('print the version')
  .action(() => void process.stdout.write(`${version()}\n`));

await program.parseAsync();
