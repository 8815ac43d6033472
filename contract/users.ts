/** How a user who signs in with a password may be called. */
export const userIdForm = /^[a-z0-9][a-z0-9._-]{0,49}$/;

/** Characters of a password: too few are guessed, and more are work without gain. */
export const passwordCharactersMin = 8;
export const passwordCharactersMax = 200;
