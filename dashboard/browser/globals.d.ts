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
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<ApiAnswer>;
  /** Shows a sentence for some seconds. */
  tell(text: string, kind: 'done' | 'problem'): void;
  /** Draws the page anew in a moment. */
  soon(): void;
  /** What a problem says, as one text. */
  problemText(body: unknown): string;
  /** Says whether the page follows what happens; for pages that follow it by a stream of their own. */
  showLive(state: 'live' | 'polling' | 'offline' | 'ended'): void;
}

interface Htmx {
  readonly config: Record<string, unknown>;
  ajax(verb: string, path: string, options: object): Promise<void>;
}

interface Sortable {
  create(element: Element, options: object): void;
}

interface Window {
  orchestra: Orchestra;
  readonly htmx: Htmx;
  readonly Sortable: Sortable;
}
