import type { Role } from '../contract/roles.js';

/** Who asks: settled by the API before a use case is called. */
export interface Caller {
  readonly userId: string;
  readonly role: Role;
  /** of an API key its id, else what the request came with: `session:<start of its hash>` or `password:<user>` */
  readonly keyId: string;
  /** of a session: when it ends, unless it is used until then */
  readonly sessionEndsAt?: Date;
}

/** The id of the API key that the caller came with; null: it was none. */
export function apiKeyOf(caller: Caller): string | null {
  return caller.keyId.includes(':') ? null : caller.keyId;
}

/** Whose streams are counted together: those of a key, else those of a user, however often that one has signed in. */
export function streamHolderOf(caller: Caller): string {
  return apiKeyOf(caller) ?? `user:${caller.userId}`;
}

/** Whose objects a caller may see and change; null: everybody's. */
export function ownerOf(caller: Caller): string | null {
  return caller.role === 'admin' ? null : caller.userId;
}
