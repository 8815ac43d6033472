/** gRPC status codes that we act on; https://grpc.io/docs/guides/status-codes */
const notFound = 5;
const alreadyExists = 6;

/** The workflow, run or namespace that a call named is not there, or no longer runs. */
export function isNotFound(error: unknown): boolean {
  return statusOf(error) === notFound;
}

export function isAlreadyExists(error: unknown): boolean {
  return statusOf(error) === alreadyExists;
}

/** The gRPC status of an error, also of one that the SDK wrapped; undefined for any other error. */
function statusOf(error: unknown): number | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error.name === 'WorkflowNotFoundError') return notFound;
  if ('code' in error && typeof error.code === 'number') return error.code;
  return statusOf(error.cause);
}
