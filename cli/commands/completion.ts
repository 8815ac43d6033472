import type { Command } from 'commander';
import type { AddCommand } from '../command.js';
import { exitCodes } from '../failure.js';

interface Entry {
  /** the words that lead to the command, without aliases */
  readonly path: string;
  /** other ways to say them */
  readonly aliases: readonly string[];
  readonly words: readonly string[];
  /** its options that take a value, as one may write them */
  readonly valued: readonly string[];
}

/** Commands of a program with their options. */
function tree(command: Command, path = ''): Entry[] {
  const { options } = command;
  const below = (name: string) => (path === '' ? name : `${path} ${name}`);
  const own: Entry = {
    path,
    aliases: command.aliases().map((alias) => [...path.split(' ').slice(0, -1), alias].join(' ')),
    words: [...command.commands.map((sub) => sub.name()), ...options.map(({ long, short }) => long ?? short ?? '').filter((word) => word !== ''), '--help'],
    valued: options.filter(({ required }) => required).flatMap(({ long, short }) => [long, short].filter((word) => word != null)),
  };
  return [own, ...command.commands.flatMap((sub) => tree(sub, below(sub.name())))];
}

/** Names of templates that a shell takes as one word; whatever else an API calls a template is not completed, since bash would expand it. */
const plainName = '[A-Za-z0-9][A-Za-z0-9_-]*';

function bashScript(entries: readonly Entry[]): string {
  const [root, ...commands] = entries as [Entry, ...Entry[]];
  const everywhere = root.words.filter((word) => word.startsWith('--') && word !== '--help' && word !== '--version');
  const quoted = (texts: readonly string[]) => texts.map((text) => `'${text}'`).join('|');
  const steps = [
    `      ${quoted(commands.map(({ path }) => path))}) at="\${at:+$at }$word" ;;`,
    ...commands.flatMap(({ path, aliases }) => aliases.map((alias) => `      '${alias}') at='${path}' ;;`)),
  ];
  const valued = [
    `      ${root.valued.map((option) => `*'|${option}'`).join('|')}) skip=1 ;;`,
    ...commands
      .filter((entry) => entry.valued.length > 0)
      .map((entry) => `      ${quoted(entry.valued.map((option) => `${entry.path}|${option}`))}) skip=1 ;;`),
  ];
  const words = entries.map((entry) => `    '${entry.path}') words='${[...entry.words, ...(entry === root ? [] : everywhere)].join(' ')}' ;;`);
  return `_orchestra() {
  local current="\${COMP_WORDS[COMP_CWORD]}" at='' word words='' skip='' names
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    if [ "$word" = '=' ]; then continue; fi
    if [ -n "$skip" ]; then skip=''; continue; fi
    case "$at|$word" in
${valued.join('\n')}
    esac
    case "\${at:+$at }$word" in
${steps.join('\n')}
    esac
  done
  COMPREPLY=()
  if [ -n "$skip" ]; then return; fi
  case "$at" in
${words.join('\n')}
  esac
  case "$at" in
    'submit'|'templates show')
      names="$(orchestra templates list 2>/dev/null | cut -f1 | LC_ALL=C grep -xE '${plainName}')"
      words="$words $names"
      ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _orchestra orchestra
`;
}

/** A script for a shell that completes commands and options; names of templates are asked from the running installation. */
export function completionScript(program: Command, shell: string): string | null {
  const entries = tree(program);
  switch (shell) {
    case 'bash':
      return bashScript(entries);
    case 'zsh':
      return `autoload -U +X bashcompinit && bashcompinit\n${bashScript(entries)}`;
    case 'fish':
      return entries
        .flatMap(({ path, aliases, words }) => {
          const said = [path, ...aliases].map((each) => each.split(' ').at(-1)).join(' ');
          const condition = path === '' ? '__fish_use_subcommand' : `__fish_seen_subcommand_from ${said}`;
          return words.map((word) => `complete -c orchestra -n '${condition}' ${word.startsWith('--') ? `-l ${word.slice(2)}` : `-f -a '${word}'`}`);
        })
        .join('\n')
        .concat('\n');
    default:
      return null;
  }
}

export const addCompletion: AddCommand = (program) => {
  program
    .command('completion <shell>')
    .description('print a completion script for bash, zsh or fish: eval "$(orchestra completion bash)"')
    .action((shell: string) => {
      const script = completionScript(program, shell);
      if (script === null) {
        process.stderr.write(`orchestra completion: ${shell} is not known: give bash, zsh or fish.\n`);
        process.exitCode = exitCodes.usage;
      } else process.stdout.write(script);
    });
};
