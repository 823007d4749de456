from django.urls import URLPattern

app_name = "sqllogs"
urlpatterns: list[URLPattern] = []
