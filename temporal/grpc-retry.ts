import { type ConnectionOptions, defaultGrpcRetryOptions, makeGrpcRetryInterceptor } from '@temporalio/client';

type Interceptor = NonNullable<ConnectionOptions['interceptors']>[number];
type Call = ReturnType<Parameters<Interceptor>[1]>;

/** gRPC's code of a call that its caller ended (https://grpc.io/docs/guides/status-codes/); it is not tried again. */
const cancelled = 1;

const retry = makeGrpcRetryInterceptor(defaultGrpcRetryOptions());

/**
 * The SDK's retries, for connections that get closed. The SDK tries a failed call again from a timer; when the connection
 * was closed in between, gRPC throws in that timer, where nobody can catch it: the process ends and the caller waits for ever.
 * Here such a call fails as cancelled instead.
 */
export const retryUntilClosed: Interceptor = (options, nextCall) =>
  retry(options, (again) => {
    try {
      return nextCall(again);
    } catch (error) {
      return failedCall(error instanceof Error ? error.message : String(error));
    }
  });

function failedCall(details: string): Call {
  const nothing = () => undefined;
  return {
    start(metadata, listener) {
      listener?.onReceiveMessage?.(null); // gRPC says "no message" before the status too, and the SDK counts on it
      listener?.onReceiveStatus?.({ code: cancelled, details, metadata });
    },
    cancelWithStatus: nothing,
    getPeer: () => 'unknown',
    sendMessage: nothing,
    sendMessageWithContext: nothing,
    startRead: nothing,
    halfClose: nothing,
    getAuthContext: () => null,
  };
}
