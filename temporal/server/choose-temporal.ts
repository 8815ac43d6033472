/** The Temporal CLI we are tested with; its server is 1.31.2. The same version is pinned in go.mod beside this file. */
export const temporalCliVersion = '1.8.2';

/** Older servers lose activities when a worker stops, and have priority switched off. */
export const serverVersionMin = '1.31.0';

/** A program that was started once and asked for its server's version. */
export type Binary = { readonly path: string; readonly serverVersion: string } | { readonly path: string; readonly fault: string };

/**
 * What is known of the ways to a Temporal server. A field that is absent was not looked at yet;
 * null means that there is nothing. Later ways are looked at only when the earlier ones are known to lead nowhere.
 */
export interface TemporalFacts {
  /** TEMPORAL_ADDRESS */
  readonly address: string | null;
  readonly onPath?: Binary | null;
  readonly cached?: Binary | null;
  /** why the download failed */
  readonly downloadFault?: string;
  /** version of the Go toolchain, such as 1.26.4 */
  readonly go?: string | null;
  /** why the build failed */
  readonly buildFault?: string;
}

export type TemporalChoice =
  | { readonly kind: 'foreign'; readonly address: string; readonly why: string }
  | { readonly kind: 'binary'; readonly path: string; readonly serverVersion: string; readonly why: string }
  | { readonly kind: 'look'; readonly at: 'path' | 'cache' | 'go' }
  | { readonly kind: 'download'; readonly why: string }
  | { readonly kind: 'build'; readonly why: string }
  | { readonly kind: 'none'; readonly why: string; readonly remedy: string };

/** Older toolchains cannot fetch the one that go.mod names. */
const goVersionMin = '1.21.0';

/** Compares versions such as `1.31.2` or `1.31.2-beta.1` by their numbers. @returns below, equal to or above 0 */
export function compareVersions(a: string, b: string): number {
  const numbers = (version: string) => version.replace(/^v/, '').split(/[-+]/)[0]?.split('.').map(Number) ?? [];
  const [left, right] = [numbers(a), numbers(b)];
  for (let i = 0; i < 3; i++) {
    const difference = (left[i] || 0) - (right[i] || 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function usable(binary: Binary | null | undefined): binary is { path: string; serverVersion: string } {
  return binary != null && 'serverVersion' in binary && compareVersions(binary.serverVersion, serverVersionMin) >= 0;
}

function whyNot(binary: Binary): string {
  return 'fault' in binary ? `${binary.path} ${binary.fault}` : `${binary.path} is server ${binary.serverVersion}, older than ${serverVersionMin}`;
}

/** The next thing to do on the way to a Temporal server: address, PATH, cache, download, build. */
export function chooseTemporal(facts: TemporalFacts): TemporalChoice {
  if (facts.address !== null) return { kind: 'foreign', address: facts.address, why: 'TEMPORAL_ADDRESS names it' };
  if (facts.onPath === undefined) return { kind: 'look', at: 'path' };
  if (usable(facts.onPath)) return { kind: 'binary', ...facts.onPath, why: `\`temporal\` is on the PATH, server ${facts.onPath.serverVersion}` };
  const pathFault = facts.onPath === null ? '`temporal` is not on the PATH' : whyNot(facts.onPath);
  if (facts.cached === undefined) return { kind: 'look', at: 'cache' };
  if (usable(facts.cached)) return { kind: 'binary', ...facts.cached, why: `${pathFault}; an earlier start has cached server ${facts.cached.serverVersion}` };
  const cacheFault = facts.cached === null ? 'nothing is cached' : whyNot(facts.cached);
  if (facts.downloadFault === undefined) return { kind: 'download', why: `${pathFault}, ${cacheFault}` };
  const downloadFault = `the download failed (${facts.downloadFault})`;
  if (facts.go === undefined) return { kind: 'look', at: 'go' };
  if (facts.go !== null && compareVersions(facts.go, goVersionMin) >= 0 && facts.buildFault === undefined) {
    return { kind: 'build', why: `${downloadFault}; Go ${facts.go} is here` };
  }
  const buildFault =
    facts.buildFault !== undefined
      ? `the build failed (${facts.buildFault})`
      : facts.go === null
        ? 'Go is not installed'
        : `Go ${facts.go} is older than ${goVersionMin}`;
  return {
    kind: 'none',
    why: `no Temporal server can be had: ${pathFault}, ${cacheFault}, ${downloadFault}, ${buildFault}`,
    remedy: `install the Temporal CLI ${temporalCliVersion} (https://temporal.io/setup/install-temporal-cli), or Go 1.26, or set TEMPORAL_ADDRESS to a running server`,
  };
}
