"""Signs in, reads and edits the profile and refreshes the tokens with the generated client."""

import sys

from client import AuthenticatedClient, Client, models
from client.api.auth import refresh_token, send_code, sign_in
from client.api.users import get_current_user, list_users, update_current_user

url, phone = sys.argv[1], "+79608543017"
client = Client(base_url=url)
sent = send_code.sync(client=client, body=models.SendCodeRequest(phone=phone, locale=None))
body = models.SignInRequest(phone=phone, code=sent.code, challenge_id=sent.challenge_id)
signed_in = sign_in.sync(client=client, body=body)

authenticated = AuthenticatedClient(base_url=url, token=signed_in.access)
user = get_current_user.sync(client=authenticated)
page = list_users.sync(client=authenticated, limit=5)
patch = models.ProfilePatch(first_name="Anna", email=None)
edited = update_current_user.sync(client=authenticated, body=patch)
refreshed = refresh_token.sync(client=client, body=models.RefreshRequest(refresh=signed_in.refresh))
assert isinstance(refreshed, models.Refreshed), refreshed
refused = sign_in.sync(client=client, body=body)
print(user.phone, len(page.results), edited.first_name, refused.code.value)
