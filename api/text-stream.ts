import type { Context } from 'hono';
import type { AppEnv } from './env.js';

/**
 * Answers with a text that is made piece by piece, as the reader takes it. What goes wrong before the first piece is answered as a problem; after that the
 * connection is broken, so that nobody takes a part for the whole.
 */
export async function answerText(c: Context<AppEnv>, pieces: AsyncGenerator<string>, contentType: string): Promise<Response> {
  const first = await pieces.next();
  if (c.req.raw.method === 'HEAD') {
    await pieces.return(undefined); // nobody takes the body of an answer to HEAD
    return c.body(null, 200, { 'Content-Type': contentType });
  }
  const encoder = new TextEncoder();
  let begun = false;
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const next = begun ? await pieces.next() : first;
          begun = true;
          if (next.done) controller.close();
          else controller.enqueue(encoder.encode(next.value));
        } catch (error) {
          c.var.log.error({ err: error }, 'an answer broke off');
          controller.error(error);
        }
      },
      async cancel() {
        await pieces.return(undefined);
      },
    },
    { highWaterMark: 1 },
  );
  return c.body(body, 200, { 'Content-Type': contentType });
}
