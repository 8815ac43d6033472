/** What the answer of the API was; `body` is what it sent as JSON. */
interface ApiAnswer {
  readonly ok: boolean;
  readonly status: number;
  // oxlint-disable-next-line typescript/no-explicit-any -- the schemas of the API say what it is
  readonly body: any;
}

/** What frame.js gives the scripts of pages. */
interface Orchestra {
  /** Calls the API as the reader of the page; never throws. */
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>, signal?: AbortSignal | null): Promise<ApiAnswer>;
  /** Asks before something is done; `yes` and `no` are the answers. */
  ask(what: { readonly question: string; readonly note?: string | undefined; readonly yes: string; readonly no: string }): Promise<boolean>;
  /** Shows a sentence for some seconds. */
  tell(text: string, kind: 'done' | 'problem'): void;
  /** Draws the page anew in a moment. */
  soon(): void;
  /** What a problem says, as one text. */
  problemText(body: unknown): string;
  /** Says whether the page follows what happens; for pages that follow it by a stream of their own. */
  showLive(state: 'connecting' | 'live' | 'polling' | 'offline' | 'ended'): void;
}

/** What creates a task, as the API takes it. */
interface SubmitRequest {
  readonly template: string;
  readonly parameters?: Record<string, unknown>;
  readonly priority?: number;
  readonly name?: string;
  readonly description?: string;
  readonly depends_on?: readonly string[];
  readonly metadata?: Record<string, unknown>;
  readonly agent_assigned?: string;
  // oxlint-disable-next-line typescript/no-explicit-any -- the schemas of the API say what they are
  readonly resource_requirements?: Record<string, any>;
  readonly retry?: Record<string, unknown>;
  readonly limits?: Record<string, unknown>;
}

/** What commands.js gives other scripts. */
interface OrchestraCommands {
  curlOf(request: SubmitRequest, api: { readonly origin: string; readonly apiKeyHeader: string }): string;
  commandOf(request: SubmitRequest, origin: string): string | null;
}

/** Something to do to many tasks. */
interface BulkChange {
  readonly action: 'cancel' | 'retry' | 'priority';
  /** with the action `priority` */
  readonly priority?: number;
  readonly which: { readonly filter: unknown } | { readonly ids: readonly string[] };
  /** what the question says beside how many they are */
  readonly note?: string | undefined;
  /** default true: the reader is asked first */
  readonly asks?: boolean;
}

/** What bulk.js gives other scripts. */
interface OrchestraBulk {
  /** Asks what the action would do, asks the reader, and does it; tells what became of the tasks. Gives whether it was done. */
  perform(button: HTMLButtonElement, change: BulkChange): Promise<boolean>;
  /** Does something while the page is not drawn anew and its button rests. */
  alone(button: HTMLButtonElement, act: () => Promise<unknown>): Promise<void>;
}

interface Htmx {
  readonly config: Record<string, unknown>;
  ajax(verb: string, path: string, options: object): Promise<void>;
}

interface SortableOne {
  destroy(): void;
}

interface Sortable {
  create(element: Element, options: object): SortableOne;
}

interface Window {
  orchestra: Orchestra;
  orchestraCommands: OrchestraCommands;
  orchestraBulk: OrchestraBulk;
  readonly htmx: Htmx;
  readonly Sortable: Sortable;
}
