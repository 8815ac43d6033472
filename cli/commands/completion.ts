import type { Command, Option } from 'commander';
import type { AddCommand } from '../command.js';
import { exitCodes } from '../failure.js';

/** Commands of a program with their options, by the words that lead to them. */
function tree(command: Command, path = ''): { path: string; words: string[] }[] {
  const options = command.options.map((option: Option) => option.long ?? option.short ?? '').filter((word) => word !== '');
  const own = { path, words: [...command.commands.map((sub) => sub.name()), ...options, '--help'] };
  return [own, ...command.commands.flatMap((sub) => tree(sub, path === '' ? sub.name() : `${path} ${sub.name()}`))];
}

/** A script for a shell that completes commands and options; names of templates are asked from the running installation. */
export function completionScript(program: Command, shell: string): string | null {
  const entries = tree(program);
  const cases = entries.map(({ path, words }) => `    '${path}') words='${words.join(' ')}' ;;`).join('\n');
  const bash = `_orchestra() {
  local current="\${COMP_WORDS[COMP_CWORD]}" path='' word words=''
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) ;; *) path="\${path:+$path }$word" ;; esac
  done
  case "$path" in
${cases}
  esac
  case "$path" in
    'submit'|'templates show') words="$words $(orchestra templates list 2>/dev/null | cut -f1)" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _orchestra orchestra
`;
  switch (shell) {
    case 'bash':
      return bash;
    case 'zsh':
      return `autoload -U +X bashcompinit && bashcompinit\n${bash}`;
    case 'fish':
      return entries
        .flatMap(({ path, words }) => {
          const condition = path === '' ? '__fish_use_subcommand' : `__fish_seen_subcommand_from ${path.split(' ').at(-1)}`;
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
