const token = new URLSearchParams(location.search).get("token") ?? "";

export const useAuth = () => ({ token });
