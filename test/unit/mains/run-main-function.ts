/** Runs a function of a main in this process, with what it prints and the exit code it sets. */
export async function printedBy(run: () => Promise<void>): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const printed = { out: '', err: '' };
  const writes = [process.stdout.write, process.stderr.write] as const;
  const code = process.exitCode;
  const keep = (stream: 'out' | 'err') =>
    ((text: string | Uint8Array) => {
      printed[stream] += String(text);
      return true;
    }) as typeof process.stdout.write;
  try {
    process.stdout.write = keep('out');
    process.stderr.write = keep('err');
    process.exitCode = undefined;
    await run();
    return { code: Number(process.exitCode ?? 0), ...printed };
  } finally {
    [process.stdout.write, process.stderr.write] = writes;
    process.exitCode = code;
  }
}
