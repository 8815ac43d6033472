import type { EventView } from '../../contract/schemas/event.js';

/** A server-sent event as it came over the line. */
export interface Frame {
  readonly id: string | null;
  readonly event: string | null;
  readonly data: EventView | null;
  readonly comment: string | null;
}

/** Reads frames of an answer as they come, until it ends or the reader stops. */
export async function* framesOf(answer: Response): AsyncGenerator<Frame> {
  if (answer.body === null) return;
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of answer.body as unknown as AsyncIterable<Uint8Array>) {
    text += decoder.decode(chunk, { stream: true });
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      yield frameOf(text.slice(0, end));
      text = text.slice(end + 2);
    }
  }
}

/** The next events of a stream; signs of life are passed over. */
export async function takeEvents(frames: AsyncGenerator<Frame>, count: number): Promise<EventView[]> {
  const events: EventView[] = [];
  while (events.length < count) {
    const { value, done } = await frames.next();
    if (done) break;
    if (value.data !== null) events.push(value.data);
  }
  return events;
}

function frameOf(text: string): Frame {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':');
    fields.set(line.slice(0, colon), line.slice(colon + 1).trimStart());
  }
  const data = fields.get('data');
  return {
    id: fields.get('id') ?? null,
    event: fields.get('event') ?? null,
    data: data === undefined ? null : (JSON.parse(data) as EventView),
    comment: fields.get('') ?? null,
  };
}
