/**
 * For every SDK client: 5 s to connect and 30 s to be answered, then the SDK tries again. Without them a connection that
 * went silent holds the function until Lambda kills it.
 */
export const TIMEOUTS = {
  // By itself the SDK only prints a warning when the request's time is over.
  requestHandler: { connectionTimeout: 5000, requestTimeout: 30_000, throwOnRequestTimeout: true },
};
